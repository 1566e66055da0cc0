// SPDX-License-Identifier: MIT
// What the page gives MicroPython beside its port: Ctrl-C while code runs, sleep that can be interrupted,
// and a clock of microseconds. src/worker.js sets Module.page: {poll, wait}.

#include <emscripten.h>

#include "py/mphal.h"
#include "py/runtime.h"

// 1 if Ctrl-C was pressed since the last call; hands out what was printed meanwhile.
EM_JS(int, page_asked, (void), { return Module.page ? Module.page.poll() : 0; });

// Waits up to some milliseconds, less if Ctrl-C is pressed.
EM_JS(void, page_wait, (int milliseconds), {
    if (Module.page) {
        Module.page.wait(milliseconds);
    }
});

void page_poll(void) {
    if (page_asked()) {
        mp_sched_keyboard_interrupt();
    }
}

mp_uint_t __wrap_mp_hal_ticks_us(void) {
    return (mp_uint_t)(uint64_t)(emscripten_get_now() * 1000.0);
}

void __wrap_mp_hal_delay_ms(mp_uint_t milliseconds) {
    double end = emscripten_get_now() + (double)milliseconds;
    for (;;) {
        page_poll();
        mp_handle_pending(true);
        double left = end - emscripten_get_now();
        if (left <= 0.0) {
            return;
        }
        page_wait(left < 50.0 ? (int)left + 1 : 50);
    }
}
