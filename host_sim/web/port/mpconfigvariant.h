// SPDX-License-Identifier: MIT
// MicroPython's WebAssembly port as a board in a page: the port's variant "pyscript" (no ASYNCIFY; the heap
// grows, and garbage is collected between calls from JavaScript), and a look for Ctrl-C while code runs.

#define MICROPY_CONFIG_ROM_LEVEL (MICROPY_CONFIG_ROM_LEVEL_FULL_FEATURES)
#define MICROPY_GC_SPLIT_HEAP (1)
#define MICROPY_GC_SPLIT_HEAP_AUTO (1)

// Jumps and returns between two looks: asking JavaScript costs as much as some bytecodes.
#define PAGE_POLL_EVERY (1000)
#define MICROPY_VM_HOOK_INIT static unsigned page_countdown = PAGE_POLL_EVERY;
#define MICROPY_VM_HOOK_POLL                                                                                 \
    if (--page_countdown == 0) {                                                                             \
        page_countdown = PAGE_POLL_EVERY;                                                                    \
        extern void page_poll(void);                                                                         \
        page_poll();                                                                                         \
    }
#define MICROPY_VM_HOOK_LOOP MICROPY_VM_HOOK_POLL
#define MICROPY_VM_HOOK_RETURN MICROPY_VM_HOOK_POLL
