# cmake --install gives a package for find_package(aurora COMPONENTS core torch).
include(CMakePackageConfigHelpers)
include(AuroraThirdParty)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/aurora)

install(DIRECTORY include/aurora DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} PATTERN torch EXCLUDE)
install(EXPORT aurora-core-targets NAMESPACE aurora:: DESTINATION ${package_folder})
if(AURORA_TORCH)
  install(DIRECTORY include/aurora/torch DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/aurora)
  install(EXPORT aurora-torch-targets NAMESPACE aurora:: DESTINATION ${package_folder})
  install(FILES cmake/FindAuroraTorch.cmake DESTINATION ${package_folder})
endif()
if(AURORA_BLAS_RUNTIME)
  install(FILES ${AURORA_BLAS_RUNTIME} DESTINATION ${CMAKE_INSTALL_LIBDIR}/aurora-blas)
endif()
aurora_install_notices(${CMAKE_INSTALL_DOCDIR})
configure_package_config_file(cmake/aurora-config.cmake.in ${PROJECT_BINARY_DIR}/aurora-config.cmake
  INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/aurora-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/aurora-config.cmake ${PROJECT_BINARY_DIR}/aurora-config-version.cmake
  DESTINATION ${package_folder})
if(TARGET aurora_cli)
  set_target_properties(aurora_cli PROPERTIES
    INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};${AURORA_TORCH_DIR}/lib")
endif()
