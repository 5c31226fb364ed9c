# cmake --install gives a package for find_package(aurora COMPONENTS core torch), aurora.pc, the command and the notices.
include(CMakePackageConfigHelpers)
include(AuroraThirdParty)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/aurora)

install(TARGETS aurora EXPORT aurora-core-targets)
install(EXPORT aurora-core-targets NAMESPACE aurora:: DESTINATION ${package_folder})
install(DIRECTORY include/aurora DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} PATTERN torch EXCLUDE)
install(FILES ${PROJECT_BINARY_DIR}/include/aurora/version.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/aurora)
if(AURORA_BLAS_RUNTIME)
  install(FILES ${AURORA_BLAS_RUNTIME} DESTINATION ${CMAKE_INSTALL_LIBDIR}/aurora-blas)
endif()
if(NOT AURORA_SHARED)  # whoever links a static library links its BLAS
  install(FILES cmake/FindAuroraBlas.cmake cmake/AuroraDistributions.cmake DESTINATION ${package_folder})
endif()

# libtorch is looked for in the folder aurora-torch beside our libraries: a link to the lib folder of the wheel, which is
# the one thing to set anew where the wheel lies elsewhere.
set(torch_link ${CMAKE_INSTALL_LIBDIR}/aurora-torch)
if(AURORA_TORCH)
  set_target_properties(aurora_torch PROPERTIES INSTALL_RPATH "$ORIGIN;$ORIGIN/aurora-torch")
  install(TARGETS aurora_torch EXPORT aurora-torch-targets)
  install(EXPORT aurora-torch-targets NAMESPACE aurora:: DESTINATION ${package_folder})
  install(DIRECTORY include/aurora/torch DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/aurora)
  install(FILES cmake/FindAuroraTorch.cmake DESTINATION ${package_folder})
  file(CREATE_LINK ${AURORA_TORCH_DIR}/lib ${PROJECT_BINARY_DIR}/aurora-torch SYMBOLIC)
  install(FILES ${PROJECT_BINARY_DIR}/aurora-torch DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
if(TARGET aurora_cli)
  set_target_properties(aurora_cli PROPERTIES
    INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};$ORIGIN/../${torch_link}")
  install(TARGETS aurora_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

aurora_install_notices(${CMAKE_INSTALL_DOCDIR})
configure_package_config_file(cmake/aurora-config.cmake.in ${PROJECT_BINARY_DIR}/aurora-config.cmake
  INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/aurora-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/aurora-config.cmake ${PROJECT_BINARY_DIR}/aurora-config-version.cmake
  DESTINATION ${package_folder})

# For pkg-config, the core alone. A static one with oneMKL has no such file: the place of oneMKL's archives is not its to know.
if(AURORA_SHARED OR NOT "mkl" IN_LIST AURORA_BLAS_BUILT_IN)
  file(RELATIVE_PATH pc_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
  string(REGEX REPLACE "/$" "" pc_prefix ${pc_prefix})
  set(pc_static_libraries)
  if(NOT AURORA_SHARED)
    set(pc_static_libraries " -l:libgomp.so.1 -ldl -lpthread -lstdc++ -lm")
  endif()
  configure_file(cmake/aurora.pc.in ${PROJECT_BINARY_DIR}/aurora.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/aurora.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
