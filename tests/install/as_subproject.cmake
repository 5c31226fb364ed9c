# Builds the project `parent`, which takes Aurora from source, runs its programs and looks at what its installation holds.
string(REPLACE "," ";" components "${components}")
string(REPLACE "," ";" options "${options}")
string(REPLACE "," ";" prefix_path "${prefix_path}")
string(REPLACE "|" ";" launcher "${launcher}")
file(REMOVE_RECURSE ${place})
execute_process(
  COMMAND ${CMAKE_COMMAND} -G ${generator} -S ${CMAKE_CURRENT_LIST_DIR}/parent -B ${place}
    -D CMAKE_BUILD_TYPE=${config} -D CMAKE_CXX_COMPILER=${compiler} -D "CMAKE_CXX_COMPILER_LAUNCHER=${launcher}"
    -D "CMAKE_CXX_FLAGS=${flags}" -D "CMAKE_PREFIX_PATH=${prefix_path}" -D AURORA_SOURCE=${source} -D TORCH=${torch}
    -D "COMPONENTS=${components}" ${options}
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${place} OUTPUT_VARIABLE output RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${output}")
endif()
foreach(component ${components})
  execute_process(COMMAND ${place}/uses_${component} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
execute_process(COMMAND ${CMAKE_COMMAND} --install ${place} --prefix ${place}/prefix OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(GLOB_RECURSE installed RELATIVE ${place}/prefix ${place}/prefix/*)
if(NOT installed STREQUAL "bin/uses_core")
  message(FATAL_ERROR "The parent's installation holds ${installed}.")
endif()
