add_library(aurora_warnings INTERFACE)
target_compile_options(aurora_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
  $<$<BOOL:${AURORA_WERROR}>:-Werror>
  $<$<CXX_COMPILER_ID:Clang>:-Wno-sign-conversion>  # in clang a part of -Wconversion, in gcc not
  # False alarms of gcc 12 inside std::string (gcc bug 105651).
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>)

# A precompiled header only fits where it was compiled with the same flags: -fPIC in executables too, instead of -fPIE.
add_compile_options(-fPIC)

configure_file(${CMAKE_CURRENT_LIST_DIR}/version.hpp.in ${PROJECT_BINARY_DIR}/include/aurora/version.hpp @ONLY)
set(aurora_exports ${CMAKE_CURRENT_LIST_DIR}/exports.map)

# What aurora::core and aurora::torch, the two installed libraries, have in common.
function(aurora_library target component)
  if(AURORA_SHARED)
    add_library(${target} SHARED ${ARGN})
    # Nothing of the BLAS may be seen from outside, nor be replaced by a BLAS of the same names that was loaded earlier.
    target_link_options(${target} PRIVATE
      -Wl,--version-script=${aurora_exports} -Wl,--exclude-libs,ALL -Wl,-Bsymbolic)
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${aurora_exports})
  else()
    add_library(${target} STATIC ${ARGN})
  endif()
  add_library(aurora::${component} ALIAS ${target})
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:aurora_warnings>)
  set_target_properties(${target} PROPERTIES
    EXPORT_NAME ${component} VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    DEFINE_SYMBOL ""  # a macro that users of the precompiled header would not have
    BUILD_RPATH "$ORIGIN" INSTALL_RPATH "$ORIGIN")
endfunction()

# Headers that take long to read, compiled once for all that reuse them.
function(aurora_precompiled target)
  file(CONFIGURE OUTPUT ${target}.cpp CONTENT "// Compiled for its precompiled header alone.\n")
  add_library(${target} OBJECT EXCLUDE_FROM_ALL ${CMAKE_CURRENT_BINARY_DIR}/${target}.cpp)
  target_link_libraries(${target} PRIVATE aurora_warnings)
  target_precompile_headers(${target} PRIVATE ${ARGN})
endfunction()

# For a target with sources that include torch headers.
function(aurora_reads_torch target)
  target_link_libraries(${target} PRIVATE aurora::torch)
  target_precompile_headers(${target} REUSE_FROM aurora_torch_header)
endfunction()

# For a target with sources that include <nlohmann/json.hpp> or <fmt/format.h>.
function(aurora_reads_text target)
  target_link_libraries(${target} PRIVATE fmt::fmt nlohmann_json::nlohmann_json)
  target_precompile_headers(${target} REUSE_FROM aurora_text_header)
endfunction()

# What lets waiting threads of a program sleep soon; see its source. For every program of ours.
function(aurora_sleeping_threads target)
  if(NOT TARGET aurora_sleeping_threads)
    add_library(aurora_sleeping_threads OBJECT ${PROJECT_SOURCE_DIR}/cli/sleeping_threads.cpp)
    target_link_libraries(aurora_sleeping_threads PRIVATE aurora_warnings)
  endif()
  target_link_libraries(${target} PRIVATE aurora_sleeping_threads)
endfunction()

# A program that is a whole file, run as the test NAME: examples and the code of README.md. Where it includes torch headers
# it is built only together with aurora::torch.
function(aurora_example name file)
  file(STRINGS ${file} torch_includes REGEX "#include.*torch/")
  if(torch_includes AND NOT TARGET aurora::torch)
    return()
  endif()
  add_executable(${name} ${file})
  target_link_libraries(${name} PRIVATE aurora_warnings aurora::core m)
  aurora_sleeping_threads(${name})
  # Programs in C too: where the library has a sanitizer or is static, it is the C++ compiler that knows what to link.
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  if(torch_includes)
    aurora_reads_torch(${name})
  endif()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS examples)
endfunction()
