// Which BLAS is taken, and what it says of itself; the suites backend and polar look at its results.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "aurora/backend.hpp"
#include "support/matchers.hpp"

namespace aurora::test {
namespace {

using Blas = CpuOptions::Blas;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr bool kHasMkl = AURORA_TEST_HAS_MKL, kHasOpenBlas = AURORA_TEST_HAS_OPENBLAS;

TEST(Blas, OfCpusMadeByIntelIsOneMklAndOpenBlasOfAllOthers) {
  if (!kHasMkl || !kHasOpenBlas) GTEST_SKIP() << "one of the two is not built in";
#ifdef __x86_64__
  const bool intel = __builtin_cpu_is("intel") != 0;
#else
  const bool intel = false;
#endif
  EXPECT_EQ(blas_description(), blas_description(intel ? Blas::mkl : Blas::openblas));
  EXPECT_NE(blas_description(Blas::mkl), blas_description(Blas::openblas));
}

TEST(Blas, SaysVersionKernelAndLicence) {
  if (kHasMkl) {
    EXPECT_THAT(blas_description(Blas::mkl), StartsWith("oneMKL 20"));
    EXPECT_THAT(blas_description(Blas::mkl), HasSubstr(" kernels, Intel Simplified Software License)"));
  }
  if (kHasOpenBlas) {
    EXPECT_THAT(blas_description(Blas::openblas), StartsWith("OpenBLAS 0.3."));
    EXPECT_THAT(blas_description(Blas::openblas), HasSubstr(" kernels, BSD-3-Clause)"));
  }
}

TEST(Blas, OfABackendIsTheOneThatWasAskedFor) {
  if (kHasMkl) {
    EXPECT_THAT(make_cpu_backend({.blas = Blas::mkl})->description(), HasSubstr(blas_description(Blas::mkl)));
  }
  if (kHasOpenBlas) {
    EXPECT_THAT(make_cpu_backend({.blas = Blas::openblas})->description(),
                HasSubstr(blas_description(Blas::openblas)));
  }
}

TEST(Blas, ThatIsNotBuiltInIsRefusedByName) {
  if (kHasMkl && kHasOpenBlas) GTEST_SKIP() << "both are built in";
  EXPECT_THAT(message_of([] { make_cpu_backend({.blas = kHasMkl ? Blas::openblas : Blas::mkl}); }),
              HasSubstr(kHasMkl ? "OpenBLAS" : "oneMKL"));
}

}  // namespace
}  // namespace aurora::test
