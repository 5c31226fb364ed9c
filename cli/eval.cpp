#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "command.hpp"
#include "json_line.hpp"
#include "terminal.hpp"
#include "train.hpp"

namespace aurora::cli {

namespace {

struct Flags {
  std::string checkpoint;
  std::vector<std::string> data;
  std::string threads = "0", device = "cpu";
  bool json = false;
};

int evaluate(const Flags& flags) {
  if (flags.data.empty()) throw std::invalid_argument("--data is missing: name the text to evaluate on");
  const auto threads = static_cast<int>(integer("--threads", flags.threads, 0, 4096));
  const auto result = trainer::evaluate(flags.checkpoint, flags.data, threads, flags.device);
  if (flags.json) {
    const nlohmann::ordered_json object = {
        {"loss", result.loss}, {"bits_per_byte", result.bits_per_byte}, {"tokens", result.tokens}};
    fmt::print("{}", json_line(object));
    return kGood;
  }
  fmt::print("loss           {:.6f} nats per token\nbits per byte  {:.6f}\ntokens         {}\n", result.loss,
             result.bits_per_byte, grouped(static_cast<double>(result.tokens)));
  return kGood;
}

}  // namespace

void add_eval(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("eval", "loss and bits per byte of a checkpoint on text");
  const auto flags = std::make_shared<Flags>();
  command->add_option("checkpoint", flags->checkpoint, "checkpoint folder, or run folder (its newest)")
      ->required();
  command->add_option("--data", flags->data, "files and folders of text");
  command->add_option("--threads", flags->threads, "threads; 0: as many as torch takes")
      ->capture_default_str();
  command->add_option("--device", flags->device, "as of train")->capture_default_str();
  command->add_flag("--json", flags->json, "results as one JSON object");
  command->callback([flags, &chosen] { chosen = [flags] { return evaluate(*flags); }; });
}

}  // namespace aurora::cli
