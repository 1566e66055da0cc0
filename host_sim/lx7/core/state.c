// SPDX-License-Identifier: MIT
#include "state.h"

void lx7_stop_run(lx7_core *core, lx7_reason reason, const char *detail) {
    if (core->reason == LX7_RUNNING) {
        core->reason = (int32_t)reason;
        core->detail = detail;
    }
}

void lx7_fault(lx7_core *core, lx7_reason reason, uint32_t address, uint32_t size) {
    core->fault_address = address;
    core->fault_size = size;
    lx7_stop_run(core, reason, NULL);
}
