# SPDX-License-Identifier: MIT
SRC_USERMOD += $(USERMOD_DIR)/heap.c $(USERMOD_DIR)/chip_heap.c
