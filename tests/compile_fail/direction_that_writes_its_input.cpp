// error: constraints not satisfied|does not satisfy
#include "aurora/step.hpp"

struct InPlace {
#ifdef MISUSE
  using Blended = aurora::MatrixView;
#else
  using Blended = aurora::ConstMatrixView;
#endif
  void operator()(aurora::Backend&, Blended, std::span<const aurora::MatrixView>, aurora::MatrixView) const {}
};

aurora::DirectionRef use(const InPlace& direction) { return aurora::direction_ref(direction); }
