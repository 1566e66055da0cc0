// SPDX-License-Identifier: MIT
// Two cores for one operation. An operation cuts its work into parts that write disjoint memory:
//
//     size_t parts = (size_t)ternary_cores();
//     ternary_parallel(work, &context, parts);
//
// One part runs on the calling core, the other on a worker that sleeps between calls. The build defines
// TERNARY_PARALLEL_FREERTOS (ESP-IDF), TERNARY_PARALLEL_PTHREAD (MicroPython's unix port, the host simulator)
// or neither, which leaves one core; parallel_*.c are those three workers, parallel.c is what they share.

#ifndef TERNARY_PARALLEL_H
#define TERNARY_PARALLEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TERNARY_MAX_CORES = 2 };

// Computes part number `part`. It runs on a small stack (parallel_freertos.c) and must not allocate, raise,
// jump out, fork, or call back into MicroPython.
typedef void (*ternary_work)(void *context, size_t part);

// Cores that operations may use now, 1..TERNARY_MAX_CORES; 1 until ternary_use_cores says otherwise.
int32_t ternary_cores(void);

// Sets it, clamped to 1..TERNARY_MAX_CORES, and returns the number in force afterwards: 1 where there is no
// second core or its worker cannot be started. Starts the worker when it is first needed; a worker that
// is no longer used sleeps on. Called by one thread at a time, never from a part.
int32_t ternary_use_cores(int32_t cores);

// Calls work(context, part) once for every part in 0..parts-1 and returns when all have ended; what parts
// wrote is then visible to the caller. Part 0 always runs on the calling core, part 1 on the other core if
// ternary_cores() is 2 and its worker is free. Whatever is left follows on the calling core, in order: parts
// beyond those two, and all of them in a nested call or while another thread uses the worker. So scratch goes
// by part, never by core, and no part waits for another.
//
// ESP32-S3: the caller may block here, which loses all PIE registers, so neither the caller nor a part keeps
// q, QACC, ACCX or SAR_BYTE over this call.
void ternary_parallel(ternary_work work, void *context, size_t parts);

// Waits until the worker sleeps, and frees it from a caller that is gone: a thread that was deleted during
// ternary_parallel. For who ends threads, when they have ended.
void ternary_worker_settle(void);

// Whether parts run at the same time, or one after another.
bool ternary_parts_meet(void);

// What parallel_*.c implement, for parallel.c alone.

// Starts the worker unless there is one; returns whether there is.
bool ternary_worker_start(void);

// Has the worker run work(context, 1). False, and nothing happens, if it is not free or not on another core.
bool ternary_worker_give(ternary_work work, void *context);

// Returns when the given work has ended, and frees the worker. Called by who gave it, once.
void ternary_worker_wait(void);

#endif
