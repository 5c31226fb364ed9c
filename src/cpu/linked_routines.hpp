#pragma once

#include "blas.hpp"

// The routines of the one BLAS that is linked, under the names that Fortran gives them.
namespace aurora::blas {

extern "C" {
Routines<float>::Gemm sgemm_;
Routines<float>::Syrk ssyrk_;
Routines<float>::Triangular strsm_, strmm_;
Routines<float>::TriangularVector strsv_;
Routines<float>::Factor spotrf_, slauum_;
Routines<float>::Syevd ssyevd_;
Routines<float>::Gesdd sgesdd_;
Routines<double>::Gemm dgemm_;
Routines<double>::Syrk dsyrk_;
Routines<double>::Triangular dtrsm_, dtrmm_;
Routines<double>::TriangularVector dtrsv_;
Routines<double>::Factor dpotrf_, dlauum_;
Routines<double>::Syevd dsyevd_;
Routines<double>::Gesdd dgesdd_;
}

inline constexpr Routines<float> kLinkedSingle{sgemm_,  ssyrk_,  strsm_,  strmm_, strsv_,
                                               spotrf_, slauum_, ssyevd_, sgesdd_};
inline constexpr Routines<double> kLinkedDouble{dgemm_,  dsyrk_,  dtrsm_,  dtrmm_, dtrsv_,
                                                dpotrf_, dlauum_, dsyevd_, dgesdd_};

}  // namespace aurora::blas
