# The works of others that are inside or beside our binaries: the one list that THIRD_PARTY.md is made from
# (cmake -P cmake/AuroraThirdParty.cmake), and what an installation and a wheel bring of their texts.
#
# name | licence | where it is | its texts in the folder licenses/ of an installation
cmake_policy(VERSION 3.25)
set(AURORA_THIRD_PARTY
  "oneMKL|Intel Simplified Software License|`libaurora` on x86-64: static, as Intel ships it|oneMKL oneMKL-third-party-programs"
  "OpenBLAS with LAPACK and the GCC runtime library|BSD-3-Clause, BSD-3-Clause, GPL-3.0 with the runtime library exception|\
`aurora-blas/` beside `libaurora`: the shared library of the wheel scipy-openblas32, unchanged|OpenBLAS"
  "PyTorch|BSD-3-Clause|`libaurora_torch`, the Python package and the command: code of its headers|PyTorch"
  "pybind11|BSD-3-Clause|the Python package: code of its headers|pybind11"
  "CLI11|BSD-3-Clause|the command: code of its headers|CLI11"
  "JSON for Modern C++|MIT|the command: code of its headers|nlohmann-json"
  "toml++|MIT|the command: code of its headers|tomlplusplus"
  "{fmt}|MIT, with an exception for object code|the command: code of its headers|"
  "UTF8-CPP|BSL-1.0, which asks for no text beside object code|the command: code of its headers|"
  "Boost.Math|BSL-1.0, which asks for no text beside object code|the command: code of its headers|")

# THIRD_PARTY.md.
function(aurora_third_party_text result)
  string(CONCAT text
    "# Works of others in our binaries\n\n"
    "Aurora itself is under the [Apache License 2.0](LICENSE). What it is built with, and what of that is inside\n"
    "or beside the files of an installation (`share/doc/aurora/`) or a wheel (`aurora_optim/`); each brings the\n"
    "texts named here, in its folder `licenses/`. All of it is used as its makers ship it. Loaded from the system\n"
    "and not brought along: the C and C++ runtimes, libgomp, OpenSSL's libcrypto, {fmt}, PyTorch's shared\n"
    "libraries, and MPI for a command that was built with it.\n\n"
    "| work | licence | where | text |\n|---|---|---|---|\n")
  foreach(entry IN LISTS AURORA_THIRD_PARTY)
    string(REPLACE "|" ";" fields "${entry}")
    list(GET fields 0 name)
    list(GET fields 1 licence)
    list(GET fields 2 where)
    list(GET fields 3 texts)
    string(REGEX REPLACE "[^ ]+" "`\\0.txt`" texts "${texts}")
    string(APPEND text "| ${name} | ${licence} | ${where} | ${texts} |\n")
  endforeach()
  string(APPEND text "\nThis page is made by `cmake -P cmake/AuroraThirdParty.cmake` from the list in that file.\n")
  set(${result} "${text}" PARENT_SCOPE)
endfunction()

# Installs LICENSE, THIRD_PARTY.md and the texts; those of the BLAS come from where it comes from.
function(aurora_install_notices destination)
  install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/THIRD_PARTY.md DESTINATION ${destination} ${ARGN})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/licenses/ DESTINATION ${destination}/licenses ${ARGN})
  foreach(notice ${AURORA_BLAS_NOTICES})
    string(REGEX MATCH "^([^=]+)=(.*)$" matched ${notice})
    install(FILES ${CMAKE_MATCH_2} DESTINATION ${destination}/licenses RENAME ${CMAKE_MATCH_1}.txt ${ARGN})
  endforeach()
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  aurora_third_party_text(text)
  file(WRITE ${CMAKE_CURRENT_LIST_DIR}/../THIRD_PARTY.md "${text}")
endif()
