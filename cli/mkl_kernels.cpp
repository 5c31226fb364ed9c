// The MKL inside libtorch asks this before it looks at what instructions the CPU has, and gives other makers'
// CPUs kernels of half the width. The definition of an executable comes before that of a library: here CPUID
// alone decides, for the whole program. docs/decisions/0002-mkl-on-other-cpus.md.
extern "C" __attribute__((visibility("default"))) int mkl_serv_intel_cpu_true();
int mkl_serv_intel_cpu_true() { return 1; }
