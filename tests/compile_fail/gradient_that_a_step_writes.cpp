// error: could not convert|no matching function|no viable conversion
#include "aurora/step.hpp"

// A step only reads gradients, so a view of read-only memory will do; a weight is written.
void use(aurora::Backend& backend, const float* gradient, float* momentum, float* weight) {
  const aurora::ConstMatrixView read = aurora::row_major(gradient, 4, 2);
#ifdef MISUSE
  const aurora::ConstMatrixView written = aurora::row_major(weight, 4, 2);
#else
  const aurora::MatrixView written = aurora::row_major(weight, 4, 2);
#endif
  aurora::step(backend, aurora::MuonOptions{}, read, aurora::row_major(momentum, 4, 2), written);
}
