#include "build_commit.hpp"

namespace aurora::trainer {

std::string_view build_commit() { return AURORA_COMMIT; }

}  // namespace aurora::trainer
