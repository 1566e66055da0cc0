// SPDX-License-Identifier: MIT
// Runs an operation on two cores. The operation cuts its work into parts that write disjoint memory:
//
//     ternary_parallel(work, &context, (size_t)settings->cores);
//
// One part runs on the calling core, the other on a worker that sleeps between calls. The build defines
// TERNARY_PARALLEL_FREERTOS (ESP-IDF), TERNARY_PARALLEL_PTHREAD (MicroPython's unix port, the host simulator)
// or neither (one core). Each parallel_*.c implements one of these workers; parallel.c is common to all.

#ifndef TERNARY_PARALLEL_H
#define TERNARY_PARALLEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TERNARY_MAX_CORES = 2 };

// Computes part number `part`. Runs on a small stack (parallel_freertos.c); must not allocate, raise an
// exception, longjmp out, fork, or call into MicroPython.
typedef void (*ternary_work)(void *context, size_t part);

// Number of cores that the next call uses, 1..TERNARY_MAX_CORES; initially 1. Only ternary_call asks: below
// it, the number is that of its ternary_settings.
int32_t ternary_cores(void);

// Sets the number of cores, clamped to 1..TERNARY_MAX_CORES, and returns the result: 1 if there is no second
// core, or its worker cannot be started. The worker is started on first use and is never stopped. Call from
// one thread at a time, never from a part; other threads may be calling operations.
int32_t ternary_use_cores(int32_t cores);

// Calls work(context, part) once for each part in 0..parts-1 and returns when all have ended; what they wrote
// is then visible to the caller. Part 0 runs on the calling core, part 1 on the other core if there is a
// worker and it is free. The calling core runs all other parts in order: those after part 1, and all parts of
// a nested call or while another thread uses the worker. So scratch is per part, not per core, and parts must
// not wait for each other.
//
// ESP32-S3: the caller may block here, which loses the PIE registers: q, QACC, ACCX and SAR_BYTE must not be
// live across this call.
void ternary_parallel(ternary_work work, void *context, size_t parts);

// Waits until the worker is idle, and releases it if its caller was deleted during ternary_parallel. Call
// after terminating threads, before their memory is freed.
void ternary_worker_settle(void);

// Whether this build runs parts at the same time (true) or one after another.
bool ternary_parts_meet(void);

// Implemented by parallel_*.c, for parallel.c only.

// Starts the worker if needed; returns whether there is one.
bool ternary_worker_start(void);

// Starts work(context, 1) on the worker. Returns false and does nothing if the worker is busy or on this
// core.
bool ternary_worker_give(ternary_work work, void *context);

// Waits for the work to end and releases the worker. Call once after each successful ternary_worker_give.
void ternary_worker_wait(void);

#endif
