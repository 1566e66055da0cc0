# SPDX-License-Identifier: MIT
# For ports that build with make: USER_C_MODULES names the directory above this one.
TERNARY_MOD_DIR := $(USERMOD_DIR)
SRC_USERMOD += $(sort $(wildcard $(TERNARY_MOD_DIR)/*.c))
CFLAGS_USERMOD += -I$(TERNARY_MOD_DIR)
# The names of the functions stand in this header alone.
QSTR_GLOBAL_DEPENDENCIES += $(TERNARY_MOD_DIR)/operations.h
# The unix port has a second core by POSIX threads (parallel.h).
ifeq ($(notdir $(CURDIR)),unix)
CFLAGS_USERMOD += -DTERNARY_PARALLEL_PTHREAD -pthread
LDFLAGS_USERMOD += -pthread
endif
