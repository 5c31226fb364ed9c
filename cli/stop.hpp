#pragma once

#include <atomic>

namespace aurora::cli {

/// From here on the first SIGINT, SIGTERM or SIGHUP sets the flag, which asks a run to save and stop; a second
/// SIGINT or SIGTERM, of whichever kind, kills. SIGHUP never kills: it may come twice when a terminal goes
/// away; where it was ignored (nohup) it stays so. SIGPIPE is ignored: a reader that is gone is an error of
/// writing, and of progress none.
const std::atomic<bool>& stop_on_signals();

}  // namespace aurora::cli
