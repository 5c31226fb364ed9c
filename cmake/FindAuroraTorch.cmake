# Defines aurora::libtorch from a PyTorch wheel: the one of an existing target `torch` (find_package(Torch) makes it), else
# AURORA_TORCH_DIR, else .venv beside the project, else the Python in use; for a wheel of our own (SKBUILD) the Python that it
# is for.
# Takes headers and libraries from the wheel's folder, because the wheel's own CMake package demands a CUDA toolkit where
# the wheel was built with CUDA. Sets AURORA_TORCH_DIR and AURORA_TORCH_VERSION.
set(AURORA_TORCH_DIR "" CACHE PATH "Folder of the torch Python package")
if(TARGET torch)
  get_target_property(torch_file torch LOCATION)
  if(torch_file)
    get_filename_component(torch_folder ${torch_file}/../.. ABSOLUTE)
    set(AURORA_TORCH_DIR ${torch_folder} CACHE PATH "Folder of the torch Python package" FORCE)
  endif()
endif()
find_program(AURORA_PYTHON NAMES python3)
set(pythons ${CMAKE_SOURCE_DIR}/.venv/bin/python ${AURORA_PYTHON})
set(modes -B)
if(SKBUILD)  # the Python that builds, also without the environment of its own that pip gives it (-I), and the active one
  set(pythons ${AURORA_PYTHON} $ENV{VIRTUAL_ENV}/bin/python)
  set(modes -B -I)
endif()
foreach(python ${pythons})
  foreach(mode ${modes})
    if(NOT AURORA_TORCH_DIR AND EXISTS ${python})
      execute_process(
        COMMAND ${python} ${mode} -c
          "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
        OUTPUT_VARIABLE torch_folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
      if(torch_folder)
        set(AURORA_TORCH_DIR ${torch_folder} CACHE PATH "Folder of the torch Python package" FORCE)
      endif()
    endif()
  endforeach()
endforeach()

if(EXISTS ${AURORA_TORCH_DIR}/version.py)
  file(STRINGS ${AURORA_TORCH_DIR}/version.py version_line REGEX "^__version__")
  string(REGEX MATCH "[0-9][^'\"]*" AURORA_TORCH_VERSION "${version_line}")
endif()
set(libraries)
foreach(name torch torch_cpu c10)
  if(NOT EXISTS ${AURORA_TORCH_DIR}/lib/lib${name}.so)
    unset(AURORA_TORCH_VERSION)
  endif()
  list(APPEND libraries ${AURORA_TORCH_DIR}/lib/lib${name}.so)
endforeach()
set(folder ${AURORA_TORCH_DIR}/lib)
if(EXISTS ${folder}/libtorch_cuda.so)
  # Nobody calls them by name, yet they must be loaded; what they need in turn they find themselves.
  list(APPEND libraries -Wl,--push-state,--no-as-needed,${folder}/libtorch_cuda.so,${folder}/libc10_cuda.so,--pop-state
    -Wl,--allow-shlib-undefined)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(AuroraTorch REQUIRED_VARS AURORA_TORCH_DIR AURORA_TORCH_VERSION
  VERSION_VAR AURORA_TORCH_VERSION
  REASON_FAILURE_MESSAGE "no whole torch package there. Type pip install torch, run scripts/setup, set AURORA_TORCH_DIR, or use -DAURORA_TORCH=OFF.")
if(AuroraTorch_FOUND AND NOT TARGET aurora::libtorch)
  add_library(aurora::libtorch INTERFACE IMPORTED GLOBAL)
  target_include_directories(aurora::libtorch SYSTEM INTERFACE
    ${AURORA_TORCH_DIR}/include ${AURORA_TORCH_DIR}/include/torch/csrc/api/include)
  target_link_libraries(aurora::libtorch INTERFACE ${libraries})
endif()
