#pragma once

#include <string_view>

namespace aurora::trainer {

/// The git commit that the command was built from, with "-dirty" where its sources were changed when CMake
/// last ran; empty where that is not known.
std::string_view build_commit();

}  // namespace aurora::trainer
