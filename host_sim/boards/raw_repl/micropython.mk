# Host only: the module that serves the REPL of unix boards.
SRC_USERMOD_C += $(USERMOD_DIR)/raw_repl.c
LDFLAGS_USERMOD += -Wl,--wrap=mp_hal_set_interrupt_char -Wl,--wrap=mp_hal_stdout_tx_strn_cooked
LDFLAGS_USERMOD += -Wl,--wrap=mp_hal_stdio_mode_raw -Wl,--wrap=mp_hal_stdio_mode_orig

# MicroPython 1.25 and 1.26 do not compile pyexec.c for the unix port, and pyexec.c lacks an include for its banner.
ifeq ($(shell grep -c runtime/pyexec.c Makefile),0)
SHARED_SRC_C_EXTRA += runtime/pyexec.c
$(BUILD)/shared/runtime/pyexec.o: CFLAGS += -include py/mpconfig.h -include extmod/modplatform.h
endif
