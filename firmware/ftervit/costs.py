# SPDX-License-Identifier: MIT
"""Modelled cycles of an ESP32-S3, by which plan and layout rank plans."""

# Cycles per byte at 240 MHz: packed weights from flash, PSRAM behind the cache, a line of 64 bytes at a time
# (host_sim/lx7/timing.py has the sources). They only rank plans.
FLASH, READ, WRITE = 7.5, 2.7, 3.2
# Cycles per packed byte that decoding takes, and multiplying for each token (80 trits in 16 bytes: 5 * 17 / 16 cycles);
# meanwhile the next weights come from flash.
DECODE, MULTIPLY = 1.13, 0.332
# The same for panels of decoded weights that lie in PSRAM: most of them stay in the cache (fitted to DeiT-III-S with
# two cores on the simulated chip).
PANELS = 3.3
# Bytes that stay in the data cache of 64 KB between two uses while weights stream through it.
CACHED = 40 * 1024
# Cycles of another call of a kernel (fitted to DeiT-III-S).
CALL = 130
