# Files of Python distributions (wheels), from .venv beside the project, else from the Python in use; for a wheel of our own
# (SKBUILD) from the Python that builds it.
find_program(AURORA_PYTHON NAMES python3)
set(aurora_pythons ${PROJECT_SOURCE_DIR}/.venv/bin/python ${AURORA_PYTHON})
if(SKBUILD)
  set(aurora_pythons ${AURORA_PYTHON})
endif()

# Sets RESULT to all files of the distribution, as absolute paths; empty where no Python has it.
function(aurora_distribution_files result distribution)
  set(${result} "" PARENT_SCOPE)
  foreach(python ${aurora_pythons})
    execute_process(
      COMMAND ${python} -c "import importlib.metadata as m, os; d = m.distribution('${distribution}'); \
print(';'.join(os.path.normpath(d.locate_file(f)) for f in d.files), end='')"
      OUTPUT_VARIABLE files RESULT_VARIABLE failed ERROR_QUIET)
    if(NOT failed)
      set(${result} "${files}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

# Sets RESULT to the first of FILES whose path ends in the regular expression, else to RESULT-NOTFOUND.
function(aurora_file_of result regex)
  set(files ${ARGN})
  list(FILTER files INCLUDE REGEX "${regex}$")
  list(APPEND files ${result}-NOTFOUND)
  list(GET files 0 first)
  set(${result} "${first}" PARENT_SCOPE)
endfunction()
