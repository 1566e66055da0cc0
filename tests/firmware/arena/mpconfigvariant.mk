# SPDX-License-Identifier: MIT
# Little, because every run of the tests that starts from nothing compiles it.
FROZEN_MANIFEST =
COPT = -O1
MICROPY_USE_READLINE = 0
MICROPY_PY_BTREE = 0
MICROPY_PY_FFI = 0
MICROPY_PY_SOCKET = 0
MICROPY_PY_SSL = 0
MICROPY_PY_TERMIOS = 0
MICROPY_VFS_FAT = 0
MICROPY_VFS_LFS1 = 0
MICROPY_VFS_LFS2 = 0
MICROPY_ROM_TEXT_COMPRESSION = 0

# What mpy_module/micropython.cmake defines where ESP-IDF builds. Headers: idf/ and tests/mpy_module/freertos.
TERNARY_PARALLEL = FREERTOS
CFLAGS += -DTERNARY_ESP32
CFLAGS += -I$(VARIANT_DIR)/../idf/components/heap/include -I$(VARIANT_DIR)/../../mpy_module/freertos
