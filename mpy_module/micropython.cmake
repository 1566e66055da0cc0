# SPDX-License-Identifier: MIT
# For ports that build with CMake: USER_C_MODULES names this file.
add_library(usermod_ternary INTERFACE)
file(GLOB TERNARY_C_SOURCES ${CMAKE_CURRENT_LIST_DIR}/*.c)
if(IDF_TARGET STREQUAL "esp32s3")
    file(GLOB TERNARY_PIE_SOURCES ${CMAKE_CURRENT_LIST_DIR}/pie/*.c)
    list(APPEND TERNARY_C_SOURCES ${TERNARY_PIE_SOURCES})
    file(GLOB TERNARY_ASSEMBLY ${CMAKE_CURRENT_LIST_DIR}/pie/*.S)
    target_compile_definitions(usermod_ternary INTERFACE TERNARY_PIE)
endif()
target_sources(usermod_ternary INTERFACE ${TERNARY_C_SOURCES} ${TERNARY_ASSEMBLY})
target_include_directories(usermod_ternary INTERFACE ${CMAKE_CURRENT_LIST_DIR})

# A port may compile these sources in several targets: MicroPython's esp32 port does so in ESP-IDF's component `main`
# and in the executable, whose copy is linked although it has none of ESP-IDF's options and definitions. So the module
# adds all of them. Definitions and directories reach every target as the library's own.
set(TERNARY_OPTIONS "")
if(ESP_PLATFORM)
    target_compile_definitions(usermod_ternary INTERFACE TERNARY_ESP32)
    list(APPEND MICROPY_CPP_DEF_EXTRA TERNARY_ESP32) # where MicroPython collects names and messages
    # A second core by a FreeRTOS task (parallel.h).
    if(NOT CONFIG_FREERTOS_UNICORE)
        target_compile_definitions(usermod_ternary INTERFACE TERNARY_PARALLEL_FREERTOS)
    endif()
    if(CONFIG_ESP32S3_DATA_CACHE_LINE_SIZE)
        target_compile_definitions(
            usermod_ternary INTERFACE TERNARY_CACHE_LINE=${CONFIG_ESP32S3_DATA_CACHE_LINE_SIZE}
        )
    endif()
    # Expressions, since components that come later add to them.
    idf_build_get_property(TERNARY_IDF_DEFINITIONS COMPILE_DEFINITIONS GENERATOR_EXPRESSION)
    target_compile_definitions(usermod_ternary INTERFACE ${TERNARY_IDF_DEFINITIONS})
    foreach(TERNARY_PROPERTY COMPILE_OPTIONS C_COMPILE_OPTIONS)
        idf_build_get_property(TERNARY_IDF_OPTIONS ${TERNARY_PROPERTY} GENERATOR_EXPRESSION)
        list(APPEND TERNARY_OPTIONS ${TERNARY_IDF_OPTIONS})
    endforeach()
endif()

# Options are set on the C files, in both folders that create targets with them: options of the library would apply to
# all sources of a target, including assembly. They follow the target's own options, so they take precedence.
list(APPEND TERNARY_OPTIONS -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers)
list(APPEND TERNARY_OPTIONS -O2 -ffunction-sections -fdata-sections)
set_source_files_properties(
    ${TERNARY_C_SOURCES}
    DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_SOURCE_DIR}
    PROPERTIES COMPILE_OPTIONS "${TERNARY_OPTIONS}"
)
target_link_libraries(usermod INTERFACE usermod_ternary)
