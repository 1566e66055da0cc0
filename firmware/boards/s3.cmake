# SPDX-License-Identifier: MIT
# Settings shared by the ESP32-S3 boards. ports/esp32/CMakeLists.txt includes a board's mpconfigboard.cmake, which
# includes this file, and then reads the files of SDKCONFIG_DEFAULTS in order: a later line wins.
set(IDF_TARGET esp32s3)

set(SDKCONFIG_DEFAULTS ${CMAKE_SOURCE_DIR}/boards/sdkconfig.base)
# Some versions of MicroPython lack these files.
foreach(NAME usb ble)
    if(EXISTS ${CMAKE_SOURCE_DIR}/boards/sdkconfig.${NAME})
        list(APPEND SDKCONFIG_DEFAULTS ${CMAKE_SOURCE_DIR}/boards/sdkconfig.${NAME})
    endif()
endforeach()
list(APPEND SDKCONFIG_DEFAULTS ${CMAKE_CURRENT_LIST_DIR}/sdkconfig.s3 ${MICROPY_BOARD_DIR}/sdkconfig.board)

# ESP-IDF resolves this name relative to ports/esp32, not to the board.
file(WRITE ${CMAKE_BINARY_DIR}/sdkconfig.partitions
    "CONFIG_PARTITION_TABLE_CUSTOM_FILENAME=\"${MICROPY_BOARD_DIR}/partitions.csv\"\n")
list(APPEND SDKCONFIG_DEFAULTS ${CMAKE_BINARY_DIR}/sdkconfig.partitions)

set(MICROPY_FROZEN_MANIFEST ${MICROPY_BOARD_DIR}/manifest.py)

# The camera module as an ESP-IDF component: its idf_component.yml adds the driver, esp32-camera.
if(DEFINED ENV{CAMERA_DIR} AND EXISTS $ENV{CAMERA_DIR}/idf_component.yml)
    list(APPEND EXTRA_COMPONENT_DIRS $ENV{CAMERA_DIR})
endif()
