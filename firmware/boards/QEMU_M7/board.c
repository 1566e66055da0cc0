// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the FTerViT for MicroPython authors
//
// Adds to MicroPython's qemu port on a Cortex-M7 (QEMU's machine mps2-an500): time, an interrupt-driven
// serial line (Ctrl-C reaches a busy program, an idle board sleeps), a heap size set on QEMU's command line,
// flash with a ROMFS, a working reset, and reports of faults. mpconfigboard.mk makes the linker use the
// __wrap functions.

#include <string.h>

#include "extmod/vfs.h"
#include "py/gc.h"
#include "py/mperrno.h"
#include "py/mphal.h"
#include "py/objarray.h"
#include "py/runtime.h"
#include "py/stream.h"
#include "shared/runtime/interrupt_char.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

// Registers of ARMv7-M.
#define SYST_CSR REGISTER(0xE000E010)
#define SYST_RVR REGISTER(0xE000E014)
#define SYST_CVR REGISTER(0xE000E018)
#define NVIC_ISER0 REGISTER(0xE000E100)
#define AIRCR REGISTER(0xE000ED0C)
#define AIRCR_SYSRESETREQ (0x05FA0004)
#define MPU_CTRL REGISTER(0xE000ED94)
#define MPU_RNR REGISTER(0xE000ED98)
#define MPU_RBAR REGISTER(0xE000ED9C)
#define MPU_RASR REGISTER(0xE000EDA0)

// The serial line, a CMSDK APB UART, and its interrupt.
#define UART_DATA REGISTER(0x40004000)
#define UART_STATE REGISTER(0x40004004)
#define UART_CTRL REGISTER(0x40004008)
#define UART_INTSTATUS REGISTER(0x4000400C)
#define UART_TX_FULL (1u << 0)
#define UART_RX_FULL (1u << 1)
#define UART_RX_INTERRUPT_ENABLE (1u << 3)
#define UART_RX_INTERRUPT (1u << 1)
#define UART_RX_IRQ (0)

// The board's counters: one counts units of 10 ms, the other units of PRESCALE + 1 cycles.
#define CLOCK_HZ (25000000)
#define FPGAIO_CLK100HZ REGISTER(0x40028014)
#define FPGAIO_COUNTER REGISTER(0x40028018)
#define FPGAIO_PRESCALE REGISTER(0x4002801C)

// From qemu_m7.ld. QEMU sets board_parameters[0] before the start: heap size in bytes, 0 for all.
extern const volatile uint32_t board_parameters[];
extern uint8_t board_heap[], board_heap_end[], board_flash[], board_flash_end[];

extern uint32_t _estack;
void Reset_Handler(void);

void __real_gc_init(void *start, void *end);
void __real_mp_init(void);
void __real_uart_init(void);

uint32_t board_lock(void) {
    uint32_t state;
    __asm volatile("mrs %0, primask\n cpsid i" : "=r"(state) : : "memory");
    return state;
}

void board_unlock(uint32_t state) {
    __asm volatile("msr primask, %0" : : "r"(state) : "memory");
}

static void sleep_until_interrupt(void) {
    __asm volatile("dsb\n wfi" : : : "memory");
}

__attribute__((noreturn)) static void reset(void) {
    AIRCR = AIRCR_SYSRESETREQ;
    for (;;) {
    }
}

// machine.reset() and the end of main() reset the board; the port's exit would end QEMU.
__attribute__((noreturn)) void __wrap_exit(int status) {
    (void)status;
    reset();
}

// No semihosting: it gives programs access to the host's files, and is not needed.
void __wrap_mp_semihosting_init(void) {}

// Serial line. The interrupt moves received bytes to a queue.

enum { QUEUE = 1024 };
static uint8_t queue[QUEUE];
static volatile uint32_t received, taken;

// Moves received bytes to the queue; call with interrupts off. If the queue is full while Ctrl-C is enabled,
// bytes are dropped, as on any UART, so that Ctrl-C is not stuck behind them; otherwise they wait on the
// line.
static void receive(void) {
    UART_INTSTATUS = UART_RX_INTERRUPT;
    while (UART_STATE & UART_RX_FULL) {
        bool room = received - taken < QUEUE;
        if (!room && mp_interrupt_char < 0) {
            return;
        }
        uint8_t byte = (uint8_t)UART_DATA;
        if (byte == mp_interrupt_char) {
            mp_sched_keyboard_interrupt();
        } else if (room) {
            queue[received % QUEUE] = byte;
            received = received + 1;
        }
    }
}

static void uart_handler(void) {
    receive();
}

void __wrap_uart_init(void) {
    __real_uart_init();
    FPGAIO_PRESCALE = CLOCK_HZ / 1000000 - 1;
    FPGAIO_COUNTER = FPGAIO_CLK100HZ * 10000;
    UART_CTRL |= UART_RX_INTERRUPT_ENABLE;
    NVIC_ISER0 = 1u << UART_RX_IRQ;
}

uintptr_t __wrap_mp_hal_stdio_poll(uintptr_t flags) {
    uint32_t state = board_lock();
    receive();
    uintptr_t ready = received != taken ? MP_STREAM_POLL_RD : 0;
    board_unlock(state);
    return flags & (ready | MP_STREAM_POLL_WR);
}

int __wrap_mp_hal_stdin_rx_chr(void) {
    for (;;) {
        mp_event_handle_nowait();
        uint32_t state = board_lock();
        receive();
        if (received != taken) {
            int byte = queue[taken % QUEUE];
            taken = taken + 1;
            board_unlock(state);
            return byte;
        }
        // Also wakes on an interrupt that became pending after the check above.
        sleep_until_interrupt();
        board_unlock(state);
    }
}

// Time in microseconds since the start.

static uint64_t microseconds(void) {
    // The 32-bit microsecond counter wraps after 71 minutes, the 10 ms counter after 497 days.
    uint64_t rough = (uint64_t)FPGAIO_CLK100HZ * 10000;
    return rough + (uint64_t)(int64_t)(int32_t)(FPGAIO_COUNTER - (uint32_t)rough);
}

mp_uint_t __wrap_mp_hal_ticks_us(void) {
    return FPGAIO_COUNTER;
}

mp_uint_t __wrap_mp_hal_ticks_ms(void) {
    return (mp_uint_t)(microseconds() / 1000);
}

mp_uint_t __wrap_mp_hal_ticks_cpu(void) {
    return FPGAIO_COUNTER;
}

// Sleeps until an interrupt, at most a millisecond.
void board_wait(void) {
    SYST_RVR = CLOCK_HZ / 1000 - 1;
    SYST_CVR = 0;
    SYST_CSR = 7;
    sleep_until_interrupt();
    SYST_CSR = 0;
}

static void tick_handler(void) {}

void __wrap_mp_hal_delay_us(mp_uint_t us) {
    mp_uint_t start = FPGAIO_COUNTER;
    while (FPGAIO_COUNTER - start < us) {
        mp_event_handle_nowait();
    }
}

void __wrap_mp_hal_delay_ms(mp_uint_t ms) {
    uint64_t end = microseconds() + (uint64_t)ms * 1000;
    do {
        mp_event_handle_nowait();
        board_wait();
    } while (microseconds() < end);
}

// Memory.

void __wrap_gc_init(void *start, void *end) {
    (void)start;
    (void)end;
    uint32_t size = board_parameters[0], most = (uint32_t)(board_heap_end - board_heap);
    __real_gc_init(board_heap, board_heap + (size && size < most ? size : most));
}

// Makes flash read-only: writes fault. Region 0 of the MPU, 2^23 bytes, privileged read-only.
static void protect_flash(bool on) {
    MPU_CTRL = 0;
    if (on) {
        MPU_RNR = 0;
        MPU_RBAR = (uint32_t)board_flash;
        MPU_RASR = 5u << 24 | 22u << 1 | 1;
        MPU_CTRL = 5; // enable; the default map for other addresses
    }
    __asm volatile("dsb\n isb" : : : "memory");
}

static MP_DEFINE_MEMORYVIEW_OBJ(flash_view, 'B', 0, 0, board_flash);

// vfs.rom_ioctl. Written data lasts until a reset, when QEMU reloads its image.
mp_obj_t __wrap_mp_vfs_rom_ioctl(size_t count, const mp_obj_t *arguments) {
    uint32_t size = (uint32_t)(board_flash_end - board_flash);
    mp_int_t command = mp_obj_get_int(arguments[0]);
    if (command == MP_VFS_ROM_IOCTL_GET_NUMBER_OF_SEGMENTS) {
        return MP_OBJ_NEW_SMALL_INT(1);
    }
    if (count < 2 || mp_obj_get_int(arguments[1]) != 0) {
        return MP_OBJ_NEW_SMALL_INT(-MP_EINVAL);
    }
    if (command == MP_VFS_ROM_IOCTL_GET_SEGMENT) {
        flash_view.len = size;
        return MP_OBJ_FROM_PTR(&flash_view);
    }
    if (command == MP_VFS_ROM_IOCTL_WRITE_PREPARE && count == 3) {
        bool fits = (mp_uint_t)mp_obj_get_int(arguments[2]) <= size;
        return MP_OBJ_NEW_SMALL_INT(fits ? 4 : -MP_EINVAL); // bytes of the smallest write
    }
    if (command == MP_VFS_ROM_IOCTL_WRITE && count == 4) {
        mp_uint_t offset = (mp_uint_t)mp_obj_get_int(arguments[2]);
        mp_buffer_info_t buffer;
        mp_get_buffer_raise(arguments[3], &buffer, MP_BUFFER_READ);
        if (offset > size || buffer.len > size - offset) {
            return MP_OBJ_NEW_SMALL_INT(-MP_EINVAL);
        }
        protect_flash(false);
        memcpy(board_flash + offset, buffer.buf, buffer.len);
        protect_flash(true);
        return MP_OBJ_NEW_SMALL_INT(0);
    }
    return MP_OBJ_NEW_SMALL_INT(command == MP_VFS_ROM_IOCTL_WRITE_COMPLETE ? 0 : -MP_EINVAL);
}

// Runs at the start and after a soft reset. mp_init mounts the image at /rom; make it the current directory.
void __wrap_mp_init(void) {
    protect_flash(true);
    __real_mp_init();
    nlr_buf_t nlr;
    if (nlr_push(&nlr) == 0) {
        mp_vfs_chdir(MP_OBJ_NEW_QSTR(MP_QSTR__slash_rom));
        nlr_pop();
    }
}

// Faults.

static void print(const char *text) {
    for (; *text; text++) {
        while (UART_STATE & UART_TX_FULL) {
        }
        UART_DATA = (uint8_t)*text;
    }
}

static void print_hex(uint32_t value) {
    char text[] = "0x00000000";
    for (int i = 9; i > 1; i--, value >>= 4) {
        text[i] = "0123456789abcdef"[value & 15];
    }
    print(text);
}

// Reports a fault and resets. frame: the exception's stack frame, r0 to r3, r12, lr, pc and xPSR. The report
// has the form of a raw REPL error, so that a waiting mpremote prints it.
__attribute__((noreturn, used)) static void fault(const uint32_t *frame) {
    print("\r\n\x04"
          "fault at ");
    print_hex(frame[6]);
    print(", called from ");
    print_hex(frame[5]);
    print(": the board resets\r\n\x04");
    reset();
}

__attribute__((naked)) static void fault_handler(void) {
    __asm volatile("mrs r0, msp\n b %0" : : "i"(fault));
}

// ARMv7-M's vector table; entries that are left out are reserved.
__attribute__((section(".board_vectors"), used)) static const void *const vectors[] = {
    [0] = &_estack, // initial stack pointer
    [1] = Reset_Handler,
    [2] = fault_handler,  // NMI
    [3] = fault_handler,  // HardFault
    [4] = fault_handler,  // MemManage
    [5] = fault_handler,  // BusFault
    [6] = fault_handler,  // UsageFault
    [11] = fault_handler, // SVCall
    [12] = fault_handler, // DebugMonitor
    [14] = fault_handler, // PendSV
    [15] = tick_handler,  // SysTick
    [16 + UART_RX_IRQ] = uart_handler,
};
