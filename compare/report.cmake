# The page report.html. Its style sheet and script are files of their own, read into a source when CMake runs.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS report.css report.js)
file(READ report.css report_style)
file(READ report.js report_script)
configure_file(report_assets.cpp.in report_assets.cpp @ONLY)
target_sources(aurora_compare PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/report_assets.cpp)
