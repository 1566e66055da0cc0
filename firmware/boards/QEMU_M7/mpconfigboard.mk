# SPDX-License-Identifier: MIT
# A Cortex-M7 with an 8 MB heap and 8 MB of flash for a ROMFS image, on QEMU's machine mps2-an500:
# make -C ports/qemu BOARD_DIR=/absolute/path/of/this/directory USER_C_MODULES=... FROZEN_MANIFEST=
QEMU_ARCH = arm
QEMU_MACHINE = mps2-an500

# Soft float: floats then print as on an ESP32-S3, whose port also uses single precision.
MICROPY_FLOAT_IMPL = float
CFLAGS += -mthumb -mcpu=cortex-m7 -mfloat-abi=soft
CFLAGS += -DQEMU_SOC_MPS2 -DMICROPY_HW_MCU_NAME='"Cortex-M7"'
CFLAGS += -DMP_CONFIGFILE='"$(BOARD_DIR)/mpconfigboard.h"'
# Overrides the port's -Os.
override CFLAGS_EXTRA += -O2
MPY_CROSS_FLAGS += -march=armv7emsp

# The heap is elsewhere (board.c); this array of main.c is unused.
MICROPY_HEAP_SIZE = 4

LDSCRIPT = $(BOARD_DIR)/qemu_m7.ld
SRC_C += $(BOARD_DIR)/board.c
SRC_BOARD_O = shared/runtime/gchelper_native.o shared/runtime/gchelper_thumb2.o

# Functions that board.c replaces. A reference to NAME goes to __wrap_NAME, whether or not the port of that version of
# MicroPython has NAME.
BOARD_WRAPS = gc_init mp_init exit uart_init mp_semihosting_init mp_vfs_rom_ioctl \
	mp_hal_stdio_poll mp_hal_stdin_rx_chr \
	mp_hal_ticks_ms mp_hal_ticks_us mp_hal_ticks_cpu mp_hal_delay_ms mp_hal_delay_us
LDFLAGS += $(addprefix -Wl$(comma)--wrap=,$(BOARD_WRAPS))
comma := ,
