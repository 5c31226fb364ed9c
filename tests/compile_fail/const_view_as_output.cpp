// error: could not convert|no matching function|no viable conversion
#include "aurora/polar.hpp"

void write(aurora::Backend& backend, const float* gradient, float* direction) {
  const aurora::ConstMatrixView input = aurora::row_major(gradient, 4, 2);
#ifdef MISUSE
  const aurora::ConstMatrixView output = aurora::row_major(direction, 4, 2);
#else
  const aurora::MatrixView output = aurora::row_major(direction, 4, 2);
#endif
  aurora::polar(backend, input, aurora::Polar::exact, output);
}
