# Defines aurora_blas: BLAS and LAPACK for the core, chosen by AURORA_BLAS.
#   mkl       static oneMKL (PyPI mkl-static and mkl-include) from CMAKE_PREFIX_PATH, else from .venv, else from the prefix of
#             the Python in use
#   openblas  the system's OpenBLAS, static where it is found
# Static, because libtorch exports BLAS names of its own and a process must not mix two.
#
# The threads of both come from AURORA_OPENMP, any library with the entry points GOMP_*: GNU's, or LLVM's, which
# ThreadSanitizer understands.
set(AURORA_OPENMP -l:libgomp.so.1 CACHE STRING "How to link the OpenMP runtime")
add_library(aurora_blas INTERFACE)
if(AURORA_BLAS STREQUAL "mkl")
  set(prefixes ${CMAKE_PREFIX_PATH} ${PROJECT_SOURCE_DIR}/.venv)
  find_program(AURORA_PYTHON NAMES python3)
  if(AURORA_PYTHON)
    execute_process(COMMAND ${AURORA_PYTHON} -c "import sys; print(sys.prefix)" OUTPUT_VARIABLE python_prefix
                    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    list(APPEND prefixes ${python_prefix})
  endif()
  find_path(AURORA_MKL_INCLUDE mkl.h PATHS ${prefixes} PATH_SUFFIXES include NO_DEFAULT_PATH)
  find_library(AURORA_MKL_CORE libmkl_core.a PATHS ${prefixes} PATH_SUFFIXES lib NO_DEFAULT_PATH)
  if(NOT AURORA_MKL_INCLUDE OR NOT AURORA_MKL_CORE)
    list(JOIN prefixes " or " places)
    message(FATAL_ERROR
      "No static oneMKL in ${places}. Run scripts/setup, or configure with -DAURORA_BLAS=openblas.")
  endif()
  get_filename_component(mkl_folder ${AURORA_MKL_CORE} DIRECTORY)
  target_include_directories(aurora_blas SYSTEM INTERFACE ${AURORA_MKL_INCLUDE})
  target_compile_definitions(aurora_blas INTERFACE AURORA_BLAS_MKL)
  target_link_libraries(aurora_blas INTERFACE
    -Wl,--start-group ${mkl_folder}/libmkl_intel_lp64.a ${mkl_folder}/libmkl_gnu_thread.a ${AURORA_MKL_CORE}
    -Wl,--end-group ${AURORA_OPENMP} pthread m dl
    -Wl,-z,muldefs)  # src/cpu/blas.cpp replaces one function of MKL; docs/decisions/0002-mkl-on-other-cpus.md
elseif(AURORA_BLAS STREQUAL "openblas")
  set(suffixes openblas-pthread openblas ${CMAKE_CXX_LIBRARY_ARCHITECTURE}/openblas-pthread)
  find_library(AURORA_OPENBLAS NAMES libopenblas.a openblas PATH_SUFFIXES ${suffixes})
  find_library(AURORA_LAPACKE NAMES liblapacke.a lapacke PATH_SUFFIXES ${suffixes})
  find_path(AURORA_OPENBLAS_INCLUDE cblas.h PATH_SUFFIXES ${suffixes})
  find_path(AURORA_LAPACKE_INCLUDE lapacke.h PATH_SUFFIXES ${suffixes})
  if(NOT (AURORA_OPENBLAS AND AURORA_LAPACKE AND AURORA_OPENBLAS_INCLUDE AND AURORA_LAPACKE_INCLUDE))
    message(FATAL_ERROR "No OpenBLAS with cblas.h and lapacke.h. Run scripts/setup (libopenblas-dev, liblapacke-dev).")
  endif()
  target_include_directories(aurora_blas SYSTEM INTERFACE ${AURORA_OPENBLAS_INCLUDE} ${AURORA_LAPACKE_INCLUDE})
  target_compile_definitions(aurora_blas INTERFACE AURORA_BLAS_OPENBLAS)
  target_link_libraries(aurora_blas INTERFACE ${AURORA_LAPACKE} ${AURORA_OPENBLAS})
  if(AURORA_OPENBLAS MATCHES "\\.a$")
    target_link_libraries(aurora_blas INTERFACE -l:libgfortran.so.5)
  endif()
  target_link_libraries(aurora_blas INTERFACE ${AURORA_OPENMP} pthread m)
else()
  message(FATAL_ERROR "AURORA_BLAS is '${AURORA_BLAS}'; it must be mkl or openblas.")
endif()
