// SPDX-License-Identifier: MIT
// Any ESP32-S3 module with 16 MB of quad flash and 8 MB of octal PSRAM (ESP32-S3-WROOM-1-N16R8 and others).
#define MICROPY_HW_BOARD_NAME "FTerViT ESP32-S3 N16R8"
#define MICROPY_HW_MCU_NAME "ESP32S3"

// The REPL is on the chip's own USB and on UART0, which boards connect to a USB-to-serial bridge.
#define MICROPY_HW_ENABLE_UART_REPL (1)

// /rom: the partition `romfs` (partitions.csv); weights are read from it in place.
#define MICROPY_VFS_ROM (1)
