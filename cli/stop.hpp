#pragma once

#include <atomic>

namespace aurora::cli {

/// From here on the first SIGINT or SIGTERM sets the flag, which asks a run to save and stop; the second of
/// its kind kills.
const std::atomic<bool>& stop_on_signals();

}  // namespace aurora::cli
