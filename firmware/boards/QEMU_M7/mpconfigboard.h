// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the FTerViT for MicroPython authors
//
// The port's configuration plus time, polling of standard input, and a ROMFS in flash.

#include "mpconfigport.h"

// mpremote's mount reads and polls sys.stdin.buffer.
#undef MICROPY_PY_SYS_STDIO_BUFFER
#define MICROPY_PY_SYS_STDIO_BUFFER (1)
#undef MICROPY_PY_SELECT
#define MICROPY_PY_SELECT (1)
#undef MICROPY_PY_TIME
#define MICROPY_PY_TIME (1)
#undef MICROPY_VFS_ROM_IOCTL
#define MICROPY_VFS_ROM_IOCTL (1)

// Bytes arrive by interrupt (board.c).
uint32_t board_lock(void);
void board_unlock(uint32_t state);
void board_wait(void);
#define MICROPY_BEGIN_ATOMIC_SECTION() board_lock()
#define MICROPY_END_ATOMIC_SECTION(state) board_unlock(state)
#define MICROPY_INTERNAL_WFE(TIMEOUT_MS) board_wait()
