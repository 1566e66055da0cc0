# SPDX-License-Identifier: MIT
# No frozen modules (the port's are its asyncio): they would need mpy-cross, and not every source has micropython-lib.
FROZEN_MANIFEST =
# Behind the port's own -Os and -Werror.
$(BUILD)/%.o: CFLAGS += -O2 -msimd128 -Wno-error
$(BUILD)/ternary/%.o: CFLAGS += -O3
JSFLAGS += -O2 -s ALLOW_MEMORY_GROWTH -s ENVIRONMENT=web,worker
# Bytes. Newer versions of Emscripten have 64 KB of stack unless told otherwise.
JSFLAGS += -s TOTAL_STACK=1048576 -s MAXIMUM_MEMORY=536870912
JSFLAGS += -Wl,--wrap=mp_hal_ticks_us,--wrap=mp_hal_delay_ms
