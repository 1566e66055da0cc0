# SPDX-License-Identifier: MIT
# USER_C_MODULES of the ESP32-S3 boards: the module `ternary` and, if the environment's CAMERA_DIR names a clone of
# cnadler86/micropython-camera-API, `camera`.
include(${CMAKE_CURRENT_LIST_DIR}/../../mpy_module/micropython.cmake)

if(DEFINED ENV{CAMERA_DIR})
    # Older versions have the file in src. It sets its own manifest, so the board's is restored.
    set(TERNARY_MANIFEST ${MICROPY_FROZEN_MANIFEST})
    if(EXISTS $ENV{CAMERA_DIR}/micropython.cmake)
        include($ENV{CAMERA_DIR}/micropython.cmake)
    else()
        include($ENV{CAMERA_DIR}/src/micropython.cmake)
    endif()
    set(MICROPY_FROZEN_MANIFEST ${TERNARY_MANIFEST})
endif()
