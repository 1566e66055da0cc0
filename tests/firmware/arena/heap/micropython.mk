# SPDX-License-Identifier: MIT
SRC_USERMOD += $(USERMOD_DIR)/heap.c
