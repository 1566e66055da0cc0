# SPDX-License-Identifier: MIT
# For ports that build with make: USER_C_MODULES names the directory above this one.
TERNARY_MOD_DIR := $(USERMOD_DIR)
SRC_USERMOD += $(sort $(wildcard $(TERNARY_MOD_DIR)/*.c))
CFLAGS_USERMOD += -I$(TERNARY_MOD_DIR)
# Only this header has the names of the functions.
QSTR_GLOBAL_DEPENDENCIES += $(TERNARY_MOD_DIR)/operations.h
# The worker for a second core (parallel.h): on the unix port a POSIX thread, unless its variant has another.
ifeq ($(notdir $(CURDIR)),unix)
TERNARY_PARALLEL ?= PTHREAD
CFLAGS_USERMOD += -pthread
LDFLAGS_USERMOD += -pthread
endif
ifneq ($(TERNARY_PARALLEL),)
CFLAGS_USERMOD += -DTERNARY_PARALLEL_$(TERNARY_PARALLEL)
endif
