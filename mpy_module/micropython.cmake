# SPDX-License-Identifier: MIT
# For ports that build with CMake: USER_C_MODULES names this file.
add_library(usermod_ternary INTERFACE)
file(GLOB TERNARY_SOURCES ${CMAKE_CURRENT_LIST_DIR}/*.c)
if(IDF_TARGET STREQUAL "esp32s3")
    file(GLOB TERNARY_PIE_SOURCES ${CMAKE_CURRENT_LIST_DIR}/pie/*.c ${CMAKE_CURRENT_LIST_DIR}/pie/*.S)
    target_compile_definitions(usermod_ternary INTERFACE TERNARY_PIE)
endif()
target_sources(usermod_ternary INTERFACE ${TERNARY_SOURCES} ${TERNARY_PIE_SOURCES})
target_include_directories(usermod_ternary INTERFACE ${CMAKE_CURRENT_LIST_DIR})
# ESP-IDF has a second core by a FreeRTOS task (parallel.h).
if(ESP_PLATFORM AND NOT CONFIG_FREERTOS_UNICORE)
    target_compile_definitions(usermod_ternary INTERFACE TERNARY_PARALLEL_FREERTOS)
endif()
target_link_libraries(usermod INTERFACE usermod_ternary)
