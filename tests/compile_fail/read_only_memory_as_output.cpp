// error: conversion from|no viable conversion|could not convert
#include "aurora/matrix.hpp"

#ifdef MISUSE
using Number = const double;
#else
using Number = double;
#endif

aurora::MatrixView output(Number* numbers) { return aurora::row_major(numbers, 4, 2); }
