#include "stop.hpp"

#include <unistd.h>

#include <csignal>
#include <string_view>

#include "terminal.hpp"

namespace aurora::cli {

namespace {

std::atomic<bool> stop_requested{false};
std::string_view stop_notice = "\nfinishing this step and saving (once more stops at once)\n";

void request_stop(int) {
  stop_requested.store(true);
  [[maybe_unused]] const auto written = write(STDERR_FILENO, stop_notice.data(), stop_notice.size());
}

}  // namespace

const std::atomic<bool>& stop_on_signals() {
  if (!is_terminal(stderr)) stop_notice.remove_prefix(1);  // there is no moving line to leave
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  return stop_requested;
}

}  // namespace aurora::cli
