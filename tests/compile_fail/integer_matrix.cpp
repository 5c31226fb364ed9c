// error: a matrix element is float or double
#include "aurora/matrix.hpp"

#ifdef MISUSE
using Number = int;
#else
using Number = float;
#endif

aurora::MatrixView view(Number* numbers) { return aurora::row_major(numbers, 4, 2); }
