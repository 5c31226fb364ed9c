#include "stop.hpp"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string_view>

#include "terminal.hpp"

namespace aurora::cli {

namespace {

std::atomic<bool> stop_requested{false}, stop_at_once{false};
std::string_view stop_notice = "\nfinishing this step and saving (once more stops at once)\n";

void request_stop(int signal) {
  const int error = errno;
  stop_requested.store(true);
  if (signal != SIGHUP && stop_at_once.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);  // comes when this function has returned
  } else {
    [[maybe_unused]] const auto written = write(STDERR_FILENO, stop_notice.data(), stop_notice.size());
  }
  errno = error;
}

}  // namespace

const std::atomic<bool>& stop_on_signals() {
  if (!is_terminal(stderr)) stop_notice.remove_prefix(1);  // there is no moving line to leave
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction before {};
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return stop_requested;
}

}  // namespace aurora::cli
