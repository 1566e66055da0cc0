# SPDX-License-Identifier: MIT
# For the unix port of tests/firmware/arena, whose worker is a FreeRTOS task.
SRC_USERMOD += $(USERMOD_DIR)/fake.c
