# A shared OpenBLAS that is missing, damaged or another library ends in an exception that names path and reason. `library` is
# copied, with such a file beside it, to a folder where `program` finds it first.
set(place ${folder}/blas_not_loaded)
function(expect_failure what)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${place} AURORA_TEST_BLAS=openblas
            ${program} --gtest_filter=Backend.Bf16TiesGoToTheEvenNeighbour
    OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE code)
  string(FIND "${output}" "[aurora::blas] OpenBLAS cannot be loaded: ${place}/aurora-blas/libscipy_openblas.so" position)
  if(NOT code EQUAL 1 OR position EQUAL -1 OR NOT output MATCHES "${what}")
    message(FATAL_ERROR "Exit ${code} without path and '${what}':\n${output}")
  endif()
endfunction()

get_filename_component(name ${library} NAME)
set(shared ${place}/aurora-blas/libscipy_openblas.so)
file(REMOVE_RECURSE ${place})
file(COPY ${library} DESTINATION ${place} FOLLOW_SYMLINK_CHAIN)
expect_failure("No such file")
file(WRITE ${shared} "This is not a library, but it is longer than the header of one, which has sixty-four bytes.\n")
expect_failure("invalid ELF header")
file(COPY_FILE ${place}/${name} ${shared})
expect_failure("has no scipy_openblas_get_config")
