// SPDX-License-Identifier: MIT
// Runs an operation on several cores. The operation cuts its work into parts that write disjoint memory:
//
//     ternary_parallel(work, &context, (size_t)settings->cores);
//
// One part runs on the calling core, the others on workers that sleep between calls. The build defines
// TERNARY_PARALLEL_FREERTOS (ESP-IDF), TERNARY_PARALLEL_PTHREAD (MicroPython's unix port, the host simulator)
// or neither (one core). Each parallel_*.c implements one of these workers; parallel.c is common to all.

#ifndef TERNARY_PARALLEL_H
#define TERNARY_PARALLEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TERNARY_MAX_CORES = 64 }; // two on the chip

// Computes part number `part`. Runs on a small stack (parallel_freertos.c); must not allocate, raise an
// exception, longjmp out, fork, or call into MicroPython.
typedef void (*ternary_work)(void *context, size_t part);

// Number of cores that the next call uses, 1..TERNARY_MAX_CORES; initially 1. Only ternary_call asks: below
// it, the number is that of its ternary_settings.
int32_t ternary_cores(void);

// Sets the number of cores, clamped to those that there are (POSIX threads: two, if the machine has only
// one), and returns the result: 1 if there is no second core, or no worker can be started. Workers are
// started on first use and are never stopped. Call from one thread at a time, never from a part; other
// threads may be calling operations.
int32_t ternary_use_cores(int32_t cores);

// Calls work(context, part) once for each part in 0..parts-1 and returns when all have ended; what they wrote
// is then visible to the caller. Part 0 runs on the calling core, part n on worker n if there is one and the
// workers are free. The calling core runs all other parts: those without a worker, those that a worker has
// not begun when all others have ended (POSIX threads), and all parts of a nested call or while another
// thread uses the workers. So scratch is per part, not per core, and parts must not wait for each other.
//
// ESP32-S3: the caller may block here, which loses the PIE registers: q, QACC, ACCX and SAR_BYTE must not be
// live across this call.
void ternary_parallel(ternary_work work, void *context, size_t parts);

// Waits until the worker is idle, and releases it if its caller was deleted during ternary_parallel. Call
// after terminating threads, before their memory is freed.
void ternary_worker_settle(void);

// Implemented by parallel_*.c, for parallel.c only.

// Starts workers until there are `count` >= 1, or as many as there can be; returns how many there are, at
// most `count`.
int32_t ternary_worker_start(int32_t count);

// Starts work(context, n) on worker n for n in 1..given, and returns `given` < parts: as many as there are
// workers. Returns 0 and does nothing if workers are busy or on this core.
size_t ternary_worker_give(ternary_work work, void *context, size_t parts);

// Waits for the work to end, of which it may run parts itself, and releases the workers. Call once after each
// ternary_worker_give that gave any.
void ternary_worker_wait(void);

#endif
