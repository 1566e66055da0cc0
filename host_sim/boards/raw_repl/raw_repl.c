// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the FTerViT for MicroPython authors
//
// Host only: a board's REPL (raw and friendly, soft reset) for MicroPython's unix port, so that mpremote can
// talk to it. host_sim/boards/unix.py starts it as `raw_repl.run(raw)` on a raw terminal.
//
// The terminal behaves like a board's serial line. While a program runs, Ctrl-C interrupts it and '\n' is
// sent as "\r\n". At the prompt, and after micropython.kbd_intr(-1), all bytes pass unchanged both ways.

#include <signal.h>
#include <stdbool.h>
#include <termios.h>
#include <unistd.h>

#include "py/mphal.h"
#include "py/runtime.h"
#include "shared/readline/readline.h"
#include "shared/runtime/pyexec.h"

// Exit status after a soft reset, by the REPL in use; host_sim/boards/server.py has the same numbers.
#define EXIT_FRIENDLY (64)
#define EXIT_RAW (65)

void __real_mp_hal_set_interrupt_char(int c);
void __real_mp_hal_stdout_tx_strn_cooked(const char *str, size_t len);
void __real_mp_hal_stdio_mode_raw(void);
void __real_mp_hal_stdio_mode_orig(void);

static bool serving;
static bool interruptible;

static void set_terminal(bool signals, bool text) {
    struct termios terminal;
    if (tcgetattr(STDIN_FILENO, &terminal) != 0) {
        return;
    }
    terminal.c_lflag = signals ? (ISIG | NOFLSH) : 0;
    terminal.c_oflag = text ? (OPOST | ONLCR) : 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
}

static void on_interrupt(int signum) {
    (void)signum;
    mp_sched_keyboard_interrupt();
}

// The port's handler jumps out of any C code; a board raises the exception at the next bytecode.
void __wrap_mp_hal_set_interrupt_char(int c) {
    if (!serving) {
        __real_mp_hal_set_interrupt_char(c);
        return;
    }
    interruptible = (char)c == CHAR_CTRL_C;
    struct sigaction action = {.sa_handler = interruptible ? on_interrupt : SIG_IGN};
    if (interruptible) {
        sigaction(SIGINT, &action, NULL);
        set_terminal(true, true);
    } else {
        set_terminal(false, false);
        sigaction(SIGINT, &action, NULL);
    }
}

void __wrap_mp_hal_stdout_tx_strn_cooked(const char *str, size_t len) {
    bool at_prompt = serving && !interruptible;
    if (at_prompt) {
        set_terminal(false, true);
    }
    __real_mp_hal_stdout_tx_strn_cooked(str, len);
    if (at_prompt) {
        set_terminal(false, false);
    }
}

// The port's own two discard received input: from MicroPython 1.27 on, pyexec calls them around each program,
// and a client that interrupts one sends more right after Ctrl-C.
void __wrap_mp_hal_stdio_mode_raw(void) {
    if (!serving) {
        __real_mp_hal_stdio_mode_raw();
    }
}

void __wrap_mp_hal_stdio_mode_orig(void) {
    if (!serving) {
        __real_mp_hal_stdio_mode_orig();
    }
}

static mp_obj_t raw_repl_run(mp_obj_t raw) {
    serving = true;
    mp_hal_set_interrupt_char(-1);
    readline_init0();
    pyexec_mode_kind = mp_obj_is_true(raw) ? PYEXEC_MODE_RAW_REPL : PYEXEC_MODE_FRIENDLY_REPL;
    int result = 0;
    while (!(result & PYEXEC_FORCED_EXIT)) {
        result = pyexec_mode_kind == PYEXEC_MODE_RAW_REPL ? pyexec_raw_repl() : pyexec_friendly_repl();
    }
    int status = pyexec_mode_kind == PYEXEC_MODE_RAW_REPL ? EXIT_RAW : EXIT_FRIENDLY;
    nlr_raise(mp_obj_new_exception_arg1(&mp_type_SystemExit, MP_OBJ_NEW_SMALL_INT(status)));
}
static MP_DEFINE_CONST_FUN_OBJ_1(raw_repl_run_obj, raw_repl_run);

static const mp_rom_map_elem_t raw_repl_globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_raw_repl)},
    {MP_ROM_QSTR(MP_QSTR_run), MP_ROM_PTR(&raw_repl_run_obj)},
};
static MP_DEFINE_CONST_DICT(raw_repl_globals, raw_repl_globals_table);

const mp_obj_module_t raw_repl_user_cmodule = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&raw_repl_globals,
};

MP_REGISTER_MODULE(MP_QSTR_raw_repl, raw_repl_user_cmodule);
