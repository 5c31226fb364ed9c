#pragma once

#include <torch/torch.h>

#include <stdexcept>
#include <string>

namespace aurora::trainer {

/// Threads of torch (0: as many as it takes) and arithmetic that repeats bit for bit.
void set_up_torch(int threads);

/// The first line of an error of torch's, without its stack.
std::string first_line(const c10::Error& error);

inline constexpr const char* kOutOfMemory = "Out of memory: make the model, the context or the batch smaller";

/// work(), with torch's errors as a std::runtime_error of one line.
template <class Work>
auto with_plain_errors(Work&& work) {
  try {
    return work();
  } catch (const c10::Error& error) {
    throw std::runtime_error(first_line(error));
  } catch (const std::bad_alloc&) {
    throw std::runtime_error(kOutOfMemory);
  }
}

}  // namespace aurora::trainer
