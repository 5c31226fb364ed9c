#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace aurora::trainer {

/// Who computes a product of float32 matrices on the CPU, both of them inside libtorch: its BLAS, or oneDNN.
enum class Products { blas, onednn };

/// oneDNN on x86-64 CPUs that Intel did not make, where libtorch's MKL takes kernels of half the width; the BLAS
/// elsewhere, and in a libtorch without oneDNN.
Products fastest_products();
/// "oneDNN" or "BLAS", for `aurora doctor`.
std::string products_description();

/// x w' over the last axis of x: x [..., in], w [out, in]. With `onednn` from 2^21 multiplications on, where that
/// is faster, if both are float32, on the CPU and not under autocast; all else is torch::linear. Each result is a
/// sum of `in` products in float32, in an order that shapes and the number of threads decide.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight, Products products = fastest_products());

}  // namespace aurora::trainer
