#include <cstdio>
#include <limits>
#include <memory>

#include "command.hpp"
#include "train.hpp"

namespace aurora::cli {

namespace {

struct Flags {
  std::string checkpoint, prompt;
  std::string tokens = "256", temperature = "1", seed = "0", threads = "0", device = "cpu";
};

int sample(const Flags& flags) {
  constexpr long long kMostTokens = 100'000'000;
  const auto tokens = integer("--tokens", flags.tokens, 0, kMostTokens);
  const double temperature = number("--temperature", flags.temperature, 0);
  const auto seed = integer("--seed", flags.seed, 0, std::numeric_limits<long long>::max());
  const auto threads = static_cast<int>(integer("--threads", flags.threads, 0, 4096));
  const std::string continuation = trainer::sample(flags.checkpoint, flags.prompt, tokens, temperature,
                                                   static_cast<std::uint64_t>(seed), threads, flags.device);
  std::fwrite(flags.prompt.data(), 1, flags.prompt.size(), stdout);
  std::fwrite(continuation.data(), 1, continuation.size(), stdout);
  if (!(flags.prompt + continuation).ends_with('\n')) std::fputc('\n', stdout);
  return kGood;
}

}  // namespace

void add_sample(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("sample", "text that a checkpoint continues from a prompt");
  const auto flags = std::make_shared<Flags>();
  command->add_option("checkpoint", flags->checkpoint, "checkpoint folder, or run folder (its newest)")
      ->required();
  command->add_option("--prompt", flags->prompt, "text to continue");
  command->add_option("--tokens", flags->tokens, "tokens to generate")->capture_default_str();
  command->add_option("--temperature", flags->temperature, "0 is greedy")->capture_default_str();
  command->add_option("--seed", flags->seed, "of the random choices")->capture_default_str();
  command->add_option("--threads", flags->threads, "threads; 0: as many as torch takes")
      ->capture_default_str();
  command->add_option("--device", flags->device, "as of train")->capture_default_str();
  command->callback([flags, &chosen] { chosen = [flags] { return sample(*flags); }; });
}

}  // namespace aurora::cli
