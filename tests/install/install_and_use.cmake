set(place ${build}/tests/install)
set(prefix ${place}/prefix)
file(REMOVE_RECURSE ${prefix} ${place}/outside-build)
string(REPLACE "," ";" components "${components}")

execute_process(COMMAND ${CMAKE_COMMAND} --install ${build} --config ${config} --prefix ${prefix}
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)

# The shared libraries show namespace aurora, the core's also the C interface, and nothing else: no BLAS, no part of the C++
# library, nothing for this project alone.
find_program(nm nm REQUIRED)
file(GLOB shared_libraries ${prefix}/lib/libaurora*.so)
foreach(shared_library ${shared_libraries})
  execute_process(COMMAND ${nm} -DC --defined-only ${shared_library} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
  if(shared_library MATCHES "libaurora[.]so$")
    list(FILTER symbols EXCLUDE REGEX "^[0-9a-f]+ T aurora_[a-z_]+$")
  endif()
  list(FILTER symbols EXCLUDE REGEX
    "^[0-9a-f]+ . ((typeinfo|typeinfo name|vtable|VTT|guard variable) for )?aurora::[^\n]*$")
  execute_process(COMMAND ${nm} -DC --defined-only ${shared_library} OUTPUT_VARIABLE text)
  if(symbols OR text MATCHES " aurora::(blas|cpu)::")
    message(FATAL_ERROR "${shared_library} shows ${CMAKE_MATCH_0} ${symbols}")
  endif()
endforeach()

# Licence, list of the works of others, and every text that the list names, of a BLAS where it is brought along.
include(${source}/cmake/AuroraThirdParty.cmake)
set(documents LICENSE THIRD_PARTY.md)
foreach(entry IN LISTS AURORA_THIRD_PARTY)
  string(REGEX REPLACE "^.*[|]" "" texts "${entry}")
  string(REPLACE " " ";" texts "${texts}")
  foreach(text ${texts})
    if(NOT text MATCHES "oneMKL|OpenBLAS" OR notices MATCHES "${text}=")
      list(APPEND documents licenses/${text}.txt)
    endif()
  endforeach()
endforeach()
foreach(document ${documents})
  file(SIZE ${prefix}/share/doc/aurora/${document} bytes)
  if(bytes LESS 500)
    message(FATAL_ERROR "${document} has ${bytes} bytes.")
  endif()
endforeach()

# The package can be moved and copied: no path of this machine is in its CMake files.
file(GLOB_RECURSE package_files ${prefix}/*.cmake)
if(NOT package_files)
  message(FATAL_ERROR "No CMake files were installed under ${prefix}.")
endif()
set(machine_paths ${source} ${build} ${prefix})
if(torch)
  list(APPEND machine_paths ${torch})
endif()
foreach(package_file ${package_files})
  file(READ ${package_file} text)
  foreach(path ${machine_paths})
    string(FIND "${text}" "${path}" position)
    if(NOT position EQUAL -1)
      message(FATAL_ERROR "${package_file} names ${path}.")
    endif()
  endforeach()
endforeach()
set(moved ${place}/moved)
file(REMOVE_RECURSE ${moved})
file(RENAME ${prefix} ${moved})

execute_process(
  COMMAND ${CMAKE_COMMAND} -G ${generator} -S ${CMAKE_CURRENT_LIST_DIR}/outside -B ${place}/outside-build
    -D CMAKE_BUILD_TYPE=${config} -D CMAKE_CXX_COMPILER=${compiler} -D CMAKE_CXX_FLAGS=${flags}
    -D CMAKE_PREFIX_PATH=${moved} -D AURORA_TORCH_DIR=${torch} -D "COMPONENTS=${components}"
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${place}/outside-build COMMAND_ERROR_IS_FATAL ANY)
foreach(component ${components})
  execute_process(COMMAND ${place}/outside-build/uses_${component} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
if(EXISTS ${moved}/bin/aurora)
  execute_process(COMMAND ${moved}/bin/aurora --version COMMAND_ERROR_IS_FATAL ANY)
  foreach(page man/man1/aurora.1 bash-completion/completions/aurora zsh/site-functions/_aurora)
    file(READ ${moved}/share/${page} text)
    foreach(word train compare sweep-lr)
      string(REPLACE "\\-" "-" text "${text}")  # a manual page writes its hyphens so
      if(NOT text MATCHES "${word}")
        message(FATAL_ERROR "share/${page} does not know ${word}.")
      endif()
    endforeach()
  endforeach()
endif()

# The C interface without a C++ compiler. Not under a sanitizer, whose runtime only the compiler of the library links, and not
# with a static library, which needs the C++ runtime.
set(in_c FALSE)
if(c_compiler AND shared_libraries AND NOT flags MATCHES "sanitize")
  set(in_c TRUE)
  file(REMOVE_RECURSE ${place}/outside-c-build)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -G ${generator} -S ${CMAKE_CURRENT_LIST_DIR}/outside_c -B ${place}/outside-c-build
      -D CMAKE_BUILD_TYPE=${config} -D CMAKE_C_COMPILER=${c_compiler} -D CMAKE_PREFIX_PATH=${moved} -D source=${c_source}
    OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${CMAKE_COMMAND} --build ${place}/outside-c-build COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${place}/outside-c-build/uses_c COMMAND_ERROR_IS_FATAL ANY)
endif()

# Without CMake: pkg-config, where it is there.
find_program(pkg_config pkg-config)
if(pkg_config)
  set(ENV{PKG_CONFIG_PATH} ${moved}/lib/pkgconfig)
  execute_process(COMMAND ${pkg_config} --cflags --libs aurora
    OUTPUT_VARIABLE arguments OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(arguments)
  separate_arguments(flags)
  execute_process(
    COMMAND ${compiler} ${flags} -std=c++20 ${CMAKE_CURRENT_LIST_DIR}/outside/uses_core.cpp ${arguments}
            -Wl,-rpath,${moved}/lib -o ${place}/by_pkg_config
    COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${place}/by_pkg_config COMMAND_ERROR_IS_FATAL ANY)
  if(in_c)
    execute_process(
      COMMAND ${c_compiler} -std=c11 ${c_source} ${arguments} -lm -Wl,-rpath,${moved}/lib -o ${place}/c_by_pkg_config
      COMMAND_ERROR_IS_FATAL ANY)
    execute_process(COMMAND ${place}/c_by_pkg_config COMMAND_ERROR_IS_FATAL ANY)
  endif()
endif()
