#pragma once

#include "blas.hpp"

namespace aurora::blas {

/// OpenBLAS as it comes into the process.
struct OpenBlas {
  char* (*config)();     // "OpenBLAS 0.3.34.481.3 DYNAMIC_ARCH ..."
  char* (*core_name)();  // of the kernels that it chose
  void (*set_num_threads)(int);
  Routines<float> singles;
  Routines<double> doubles;
};

/// Loads the shared library that lies beside ours (openblas_loaded.cpp), or takes the one that is linked
/// (openblas_linked.cpp): a build has one of the two. Throws std::runtime_error with path and reason.
OpenBlas open_openblas();

}  // namespace aurora::blas
