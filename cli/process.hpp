#pragma once

namespace aurora::cli {

/// Puts something into the places of standard input, output and error that are closed, so that no file is
/// opened there and gets what is meant for people; reading or writing there fails as before.
void fill_standard_descriptors();

/// Throws std::runtime_error where the stack's limit is below what torch and BLAS need.
void require_stack();

}  // namespace aurora::cli
