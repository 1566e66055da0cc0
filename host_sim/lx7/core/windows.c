// SPDX-License-Identifier: MIT
#include "windows.h"

bool lx7_spill_window(lx7_core *core, unsigned panes) {
    uint32_t base = core->window / 4;
    uint32_t owners = (core->windowstart >> base | core->windowstart << (16 - base)) & 0xffff;
    for (unsigned pane = 1; pane <= panes; pane++) {
        if (!(owners >> pane & 1)) {
            continue;
        }
        uint32_t size = owners >> (pane + 1) & 1 ? 0 : owners >> (pane + 2) & 1 ? 1 : 2;
        lx7_window_exception(core, (base + pane) & 15, 0x80 * size);
        return true;
    }
    return false;
}

void lx7_window_exception(lx7_core *core, uint32_t base, uint32_t vector) {
    if (!core->vecbase) {
        lx7_stop_run(core, LX7_NO_VECTORS, NULL);
        return;
    }
    core->ps = (core->ps & ~(uint32_t)LX7_PS_OWB) | (core->window / 4) << LX7_PS_OWB_SHIFT | LX7_PS_EXCM;
    core->window = 4 * base;
    core->epc1 = core->pc;
    core->next_pc = core->vecbase + vector;
}
