// The system's OpenBLAS, linked.
#include "linked_routines.hpp"
#include "openblas.hpp"

extern "C" {
char* openblas_get_config();
char* openblas_get_corename();
void openblas_set_num_threads(int threads);
}

namespace aurora::blas {

OpenBlas open_openblas() {
  return {openblas_get_config, openblas_get_corename, openblas_set_num_threads, kLinkedSingle, kLinkedDouble};
}

}  // namespace aurora::blas
