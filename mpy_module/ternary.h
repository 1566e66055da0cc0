// SPDX-License-Identifier: MIT
// Integer kernels of fully ternary vision transformers. SPEC.md defines every rule; "4.2" in comments means
// SPEC 4.2.
//
// Nothing here allocates, parses files or uses floating point; the only state is the backend and the number
// of cores in use, which a call reads once. Every operation takes one struct of arguments, checks all of it
// before it writes anything, and returns a result >= 0 or an error code < 0. The MicroPython binding and the
// host simulator call operations only through the table `ternary_operations`, so both offer the same
// functions, with the same checks and the same messages. operations.h lists the operations.
//
// host_sim/ternary.py reads this file, without its preprocessor lines, as its declarations.

#ifndef TERNARY_H
#define TERNARY_H

#include <stddef.h>
#include <stdint.h>

#if defined(TERNARY_ESP32) && !defined(__OPTIMIZE__) && !defined(NO_QSTR)
#error "this copy of the module has none of the options of micropython.cmake"
#endif

// Limits; a test compares firmware's and the trainer's with these.
enum {
    TERNARY_LANES = 16,               // output channels of a tile, int8 lanes of a PIE register
    TERNARY_TRITS_PER_BYTE = 5,       // 2.2
    TERNARY_MAX_IN_FEATURES = 4032,   // 4: with 4.3, leaves room for a bias within 20 bits
    TERNARY_MAX_ACCUMULATOR = 524287, // 4.3: 20-bit accumulators
    TERNARY_MAX_WIDTH = 4096,         // 6: V <= 2^42
    TERNARY_MAX_TOKENS = 2048,        // 7: h <= 6, so the largest weight of a row stays above 0
    TERNARY_MAX_HEADS = 4096,         // 7: tokens * heads stays far below 2^31
    TERNARY_MAX_HEAD_WIDTH = 1024,    // 7.1
    TERNARY_MAX_WEIGHT_SUM = 4095,    // 7.3: 4095 * 128 stays within 20 bits
    TERNARY_MAX_PICTURE = 4096,       // 3.1: sides of a picture, pixels
    TERNARY_MAX_FEATURES = 4096,      // 12: products stay within 31 bits
    TERNARY_MAX_PICTURES = 1024,      // 12: taught
    TERNARY_MAX_CLASSES = 100,        // 12: taught
    TERNARY_MAX_PREFETCH = 32768,     // bytes; the data cache has 32 or 64 KB and serves other data, too
    TERNARY_TABLE_SIZE = 256,         // 7.2, 8.1
    TERNARY_MESSAGE_SIZE = 256,       // room for every message of ternary_error_message
};

// Ranges of a layer's integers.
enum {
    TERNARY_MAX_PIXEL_MULTIPLIER = 4194303, // 3.5: below 2^22
    TERNARY_MIN_PIXEL_OFFSET = -1073741824, // 3.5: -2^30
    TERNARY_MAX_PIXEL_OFFSET = 1073741823,
    TERNARY_MAX_MULTIPLIER = 127,        // 4.1
    TERNARY_MAX_SHIFT = 15,              // 4.1
    TERNARY_MAX_LOGIT_MULTIPLIER = 4095, // 4.7: times a 20-bit accumulator fits int32
    TERNARY_MAX_RESIDUAL_SHIFT = 8,      // 5.1
    TERNARY_MIN_GAIN = 16384,            // 6
    TERNARY_MAX_GAIN = 32767,
    TERNARY_MAX_GAIN_SHIFT = 15,  // 6
    TERNARY_MAX_BETA = 32639,     // 6: with the 128 of 6.6, within int16
    TERNARY_MAX_SCORE_SHIFT = 15, // 7.1
    TERNARY_MIN_VALUE_GAIN = -1,  // 7.5
    TERNARY_MAX_VALUE_GAIN = 6,
    TERNARY_MAX_RIDGE = 65536,        // 12.5: 4.0
    TERNARY_MAX_DEVIATION = 67108864, // 12.9: squares of 1,024 stay within 62 bits
};

// Error codes. Bindings raise TypeError for TERNARY_ERR_COUNT and below, MemoryError for TERNARY_ERR_MEMORY,
// ValueError for the others, with the text of ternary_error_message.
enum {
    TERNARY_ERR_EMPTY = -1,     // a buffer is empty
    TERNARY_ERR_SIZE = -2,      // a buffer does not have `needed` bytes
    TERNARY_ERR_SHORT = -3,     // a buffer has fewer than `needed` bytes
    TERNARY_ERR_MULTIPLE = -4,  // a buffer's size, or a number, is not a multiple of `needed`
    TERNARY_ERR_ALIGN = -5,     // a buffer's address is not a multiple of `needed`
    TERNARY_ERR_OVERLAP = -6,   // an output or scratch overlaps `other`
    TERNARY_ERR_VALUE = -7,     // a number is not in `low`..`high`
    TERNARY_ERR_CONTENT = -8,   // element `index` is `value`, not in `low`..`high`
    TERNARY_ERR_SUM = -9,       // row `index` sums to `value`, not in `low`..`high`
    TERNARY_ERR_CHANNELS = -10, // a number of channels is neither 1 nor 3
    TERNARY_ERR_RANGE = -11,    // a Python int does not fit int32
    TERNARY_ERR_TYPECODE = -12, // not a typecode of arena and heap
    TERNARY_ERR_MEMORY = -13,   // out of memory; `value`: to be left, `needed`: largest free block or 0
    TERNARY_ERR_COUNT = -14,    // wrong number of arguments: `value`
    TERNARY_ERR_TYPE = -15,     // not a buffer of the declared type, not an int, or not a str
    TERNARY_ERR_READONLY = -16, // an output or scratch is read-only
};

// One argument: a buffer (data, size in bytes) or, for TERNARY_INT, a number.
typedef struct {
    void *data;
    size_t size;
    int32_t value;
} ternary_arg;

// An error; which fields are set depends on the code.
typedef struct {
    int32_t code;
    int32_t value, low, high;
    uint64_t needed, index;
    const ternary_arg *argument, *other; // elements of the array of arguments
} ternary_error;

// Type of an argument: an int, the element of a buffer, or a str (`use` only).
typedef enum { TERNARY_INT, TERNARY_I8, TERNARY_U8, TERNARY_I16, TERNARY_I32, TERNARY_STR } ternary_type;

// How an operation uses a buffer. A buffer that is written must not overlap another argument, except that
// TERNARY_IN_PLACE is an output that may be the same buffer as the first argument.
typedef enum { TERNARY_IN, TERNARY_OUT, TERNARY_IN_PLACE, TERNARY_INOUT, TERNARY_SCRATCH } ternary_use;

typedef struct {
    const char *name;
    uint8_t type; // ternary_type
    uint8_t use;  // ternary_use
} ternary_parameter;

// What an operation depends on besides its arguments. ternary_call reads it once, so that a thread that
// changes it meanwhile changes the next call.
typedef struct ternary_backend ternary_backend; // backends.h
typedef struct {
    const ternary_backend *backend;
    int32_t cores; // that share the work: 1..TERNARY_MAX_CORES
} ternary_settings;

typedef struct {
    const char *name;
    const char *doc; // one line: what it computes, shapes, SPEC rule
    int32_t (*call)(const ternary_settings *settings, const ternary_arg *arguments, ternary_error *error);
    const ternary_parameter *parameters;
    size_t parameter_count;
    int32_t has_result; // whether Python returns the result, or None
} ternary_operation;

extern const ternary_operation ternary_operations[]; // ends with an entry whose name is NULL

// Functions that each binding implements itself. ternary_call checks the arguments of `arena` (bytes,
// typecode as a character, bytes to leave free in one block) and the first two of `heap`, and returns the
// size of an item; the others are for messages and help.
extern const ternary_operation ternary_arena[1], ternary_heap[1], ternary_cores_function[1],
    ternary_use_function[1];

// Entry point: checks that buffers are not empty, hold whole elements, are aligned and do not overlap, then
// dispatches to the operation.
int32_t ternary_call(const ternary_operation *operation, const ternary_arg *arguments, ternary_error *error);

// Backends (backends.h) of this build: names by number, the default first, NULL beyond the last. Selecting
// one affects later calls of all threads.
const char *ternary_backend_name(size_t number);
void ternary_use_backend(size_t number);
const ternary_backend *ternary_backend_in_use(void);

// Whether a buffer with this typecode of Python's struct module is accepted for the type: its own typecode,
// or bytes.
int32_t ternary_accepts(int32_t type, int32_t typecode, size_t item_size);

// Write a zero-terminated text, truncated to `size` > 0, and return it: "linear(x, weight, ...)", and a
// message such as "linear: bias has 20 bytes, needs 32".
const char *ternary_signature(const ternary_operation *operation, char *text, size_t size);
const char *ternary_error_message(const ternary_operation *operation, const ternary_arg *arguments,
                                  const ternary_error *error, char *text, size_t size);

#endif
