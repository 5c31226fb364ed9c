#include "side_by_side.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace aurora::compare {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kPollMilliseconds = 100;

/// One line to the parent; what does not arrive was not waited for.
void tell(int pipe, const Json& message) {
  const std::string line = message.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  for (std::string_view rest = line; !rest.empty();) {
    const ::ssize_t written = ::write(pipe, rest.data(), rest.size());
    if (written < 0 && errno != EINTR) return;
    if (written > 0) rest.remove_prefix(static_cast<std::size_t>(written));
  }
}

double number(const Json& message, const char* key) {
  const auto found = message.find(key);
  return found != message.end() && found->is_number() ? found->get<double>()
                                                      : std::numeric_limits<double>::quiet_NaN();
}

/// The child's side: trains and tells.
[[noreturn]] void run_child(const Task& task, const Train& train, const std::atomic<bool>* stop, int pipe) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  // The parent speaks for all of them.
  if (const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC); nowhere >= 0)
    ::dup2(nowhere, STDERR_FILENO);
  try {
    const trainer::RunResult result =
        train(task.config, task.folder, task.mode,
              {.progress =
                   [&](const trainer::Progress& progress) {
                     tell(pipe, {{"step", progress.step},
                                 {"steps", progress.steps},
                                 {"loss", progress.loss},
                                 {"validation_loss", progress.validation_loss}});
                   },
               .notice =
                   [&](const std::string& text) {
                     tell(pipe, {{"notice", text}});
                   },
               .stop = stop});
    tell(pipe, {{"end", static_cast<int>(result.end)},
                {"step", result.step},
                {"validation_loss", result.validation_loss},
                {"message", result.message}});
  } catch (const std::invalid_argument& error) {
    tell(pipe, {{"invalid", error.what()}});
  } catch (const std::exception& error) {
    tell(pipe, {{"failed", error.what()}});
  }
  ::_exit(0);
}

struct Child {
  std::size_t task;
  ::pid_t process;
  int pipe;
  std::string unread = {};
  bool told_its_end = false;
};

class Children {
 public:
  Children(std::span<const Task> tasks, const Train& train, const SideBySideHooks& hooks)
      : tasks_(tasks), train_(train), hooks_(hooks) {}
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;
  ~Children() {
    ask_to_stop();
    for (const Child& child : running_) {
      ::waitpid(child.process, nullptr, 0);
      ::close(child.pipe);
    }
  }

  std::size_t running() const { return running_.size(); }

  void start(std::size_t task) {
    try {
      if (hooks_.begin) hooks_.begin(task);
    } catch (const std::exception&) {
      error_ = std::current_exception();
      return;
    }
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    const ::pid_t process = ::fork();
    if (process < 0) {
      ::close(ends[0]);
      ::close(ends[1]);
      throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (process == 0) {
      ::close(ends[0]);
      run_child(tasks_[task], train_, hooks_.stop, ends[1]);
    }
    ::close(ends[1]);
    running_.push_back({.task = task, .process = process, .pipe = ends[0]});
  }

  /// Once.
  void ask_to_stop() {
    for (const Child& child : running_)
      if (!asked_) ::kill(child.process, SIGTERM);
    asked_ = true;
  }

  /// Takes what the children tell until one of them says something or a moment has passed.
  void listen() {
    std::vector<::pollfd> waits;
    for (const Child& child : running_) waits.push_back({.fd = child.pipe, .events = POLLIN, .revents = 0});
    if (::poll(waits.data(), waits.size(), kPollMilliseconds) < 0 && errno != EINTR)
      throw std::system_error(errno, std::generic_category(), "poll");
    for (std::size_t i = waits.size(); i-- > 0;) {
      if (waits[i].revents != 0 && !read_from(running_[i])) bury(i);
    }
  }

  /// The first error, of a child or before one; null without one.
  const std::exception_ptr& error() const { return error_; }

 private:
  /// False at the end of the pipe.
  bool read_from(Child& child) {
    std::array<char, 4096> buffer{};
    const ::ssize_t size = ::read(child.pipe, buffer.data(), buffer.size());
    if (size < 0) return errno == EINTR || errno == EAGAIN;
    if (size == 0) return false;
    child.unread.append(buffer.data(), static_cast<std::size_t>(size));
    for (std::size_t end; (end = child.unread.find('\n')) != std::string::npos;) {
      hear(child, Json::parse(child.unread.substr(0, end)));
      child.unread.erase(0, end + 1);
    }
    return true;
  }

  void hear(Child& child, const Json& message) {
    if (message.contains("notice")) {
      if (hooks_.notice) hooks_.notice(message["notice"].get<std::string>());
    } else if (message.contains("invalid")) {
      fail(child, std::make_exception_ptr(std::invalid_argument(message["invalid"].get<std::string>())));
    } else if (message.contains("failed")) {
      fail(child, std::make_exception_ptr(std::runtime_error(message["failed"].get<std::string>())));
    } else if (message.contains("end")) {
      child.told_its_end = true;
      trainer::RunResult result;
      result.end = static_cast<trainer::RunEnd>(message["end"].get<int>());
      result.step = message["step"].get<Index>();
      result.validation_loss = number(message, "validation_loss");
      result.message = message["message"].get<std::string>();
      hooks_.end(child.task, result);
    } else {
      hooks_.progress(child.task, {.step = message["step"].get<Index>(),
                                   .steps = message["steps"].get<Index>(),
                                   .loss = number(message, "loss"),
                                   .validation_loss = number(message, "validation_loss")});
    }
  }

  void bury(std::size_t index) {
    const Child child = running_[index];
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(index));
    ::close(child.pipe);
    int status = 0;
    ::waitpid(child.process, &status, 0);
    if (child.told_its_end) return;
    const std::string how = WIFSIGNALED(status) ? "killed by signal " + std::to_string(WTERMSIG(status))
                                                : "ended with code " + std::to_string(WEXITSTATUS(status));
    Child dead = child;
    fail(dead, std::make_exception_ptr(
                   std::runtime_error(tasks_[child.task].folder.string() + ": the run was " + how)));
  }

  void fail(Child& child, std::exception_ptr error) {
    child.told_its_end = true;
    if (!error_) error_ = std::move(error);
  }

  std::span<const Task> tasks_;
  const Train& train_;
  const SideBySideHooks& hooks_;
  std::vector<Child> running_;
  std::exception_ptr error_;
  bool asked_ = false;
};

}  // namespace

void run_side_by_side(std::span<const Task> tasks, int jobs, const Train& train,
                      const SideBySideHooks& hooks) {
  Children children(tasks, train, hooks);
  std::size_t next = 0;
  while (true) {
    const auto stop = [&] { return children.error() || (hooks.stop != nullptr && hooks.stop->load()); };
    if (stop()) children.ask_to_stop();
    while (!stop() && next < tasks.size() && children.running() < static_cast<std::size_t>(std::max(jobs, 1)))
      children.start(next++);
    if (children.running() == 0) break;
    children.listen();
  }
  if (children.error()) std::rethrow_exception(children.error());
}

}  // namespace aurora::compare
