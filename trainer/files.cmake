# What the command reads and writes, without torch: configuration, text, safetensors, run folders and logs.
find_package(nlohmann_json REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)

add_library(aurora_trainer_files STATIC
  ${CMAKE_CURRENT_LIST_DIR}/atomic_file.cpp
  ${CMAKE_CURRENT_LIST_DIR}/config.cpp
  ${CMAKE_CURRENT_LIST_DIR}/corpus_files.cpp
  ${CMAKE_CURRENT_LIST_DIR}/event_file.cpp
  ${CMAKE_CURRENT_LIST_DIR}/inspect.cpp
  ${CMAKE_CURRENT_LIST_DIR}/lock_file.cpp
  ${CMAKE_CURRENT_LIST_DIR}/mapped_file.cpp
  ${CMAKE_CURRENT_LIST_DIR}/matrix_statistics.cpp
  ${CMAKE_CURRENT_LIST_DIR}/model_size.cpp
  ${CMAKE_CURRENT_LIST_DIR}/run_folder.cpp
  ${CMAKE_CURRENT_LIST_DIR}/run_log.cpp
  ${CMAKE_CURRENT_LIST_DIR}/run_summary.cpp
  ${CMAKE_CURRENT_LIST_DIR}/safetensors.cpp
  ${CMAKE_CURRENT_LIST_DIR}/sha256.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tensor_set.cpp
  ${CMAKE_CURRENT_LIST_DIR}/text_data.cpp
  ${CMAKE_CURRENT_LIST_DIR}/weight_roles.cpp)
target_include_directories(aurora_trainer_files PUBLIC ${CMAKE_CURRENT_LIST_DIR})
target_link_libraries(aurora_trainer_files
  PUBLIC aurora::core nlohmann_json::nlohmann_json
  PRIVATE tomlplusplus::tomlplusplus OpenSSL::Crypto $<BUILD_INTERFACE:aurora_warnings>)
