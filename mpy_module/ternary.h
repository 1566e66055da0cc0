// SPDX-License-Identifier: MIT
// Integer kernels of fully ternary vision transformers. SPEC.md is the home of every rule; "4.2" below means
// SPEC 4.2.
//
// Nothing here allocates, parses files or uses floating point; the only state is which row of primitives is
// in use. Every operation takes one struct of arguments, checks all of it before it writes anything, and
// returns a result >= 0 or an error code < 0. The MicroPython binding and the host simulator call operations
// through the table `ternary_operations` alone, so both offer the same functions, with the same checks and
// the same messages. operations.h lists the operations.
//
// host_sim/ternary.py reads this file, without its preprocessor lines, as its declarations.

#ifndef TERNARY_H
#define TERNARY_H

#include <stddef.h>
#include <stdint.h>

enum {
    TERNARY_LANES = 16,               // output channels of a tile, int8 lanes of a PIE register
    TERNARY_TRITS_PER_BYTE = 5,       // 2.2
    TERNARY_MAX_IN_FEATURES = 4032,   // 4: with 4.3, leaves room for a bias within 20 bits
    TERNARY_MAX_ACCUMULATOR = 524287, // 4.3: 20-bit accumulators
    TERNARY_MAX_WIDTH = 4096,         // 6: V <= 2^42
    TERNARY_MAX_TOKENS = 2048,        // 7: h <= 6, so a row's largest weight stays above 0
    TERNARY_MAX_HEADS = 4096,         // tokens * heads stays far below 2^31
    TERNARY_MAX_HEAD_WIDTH = 1024,    // 7.1
    TERNARY_MAX_WEIGHT_SUM = 4095,    // 7.3: 4095 * 128 stays within 20 bits
    TERNARY_MAX_PICTURE = 4096,       // 3.1: sides of a picture, pixels
    TERNARY_MAX_PREFETCH = 8192,      // of a cache of 32 or 64 KB, which serves other data as well
    TERNARY_TABLE_SIZE = 256,         // 7.2, 8.1
    TERNARY_MESSAGE_SIZE = 256,       // room for every message of ternary_error_message
};

// Errors. `ternary_error_message` turns them into text. Bindings raise TypeError from TERNARY_ERR_COUNT on
// down, MemoryError for TERNARY_ERR_MEMORY, ValueError for the others.
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
    TERNARY_ERR_TYPECODE = -12, // there is no such typecode
    TERNARY_ERR_MEMORY =
        -13,                 // no room; `needed`: the largest free block, 0 if not known; `value`: to be left
    TERNARY_ERR_COUNT = -14, // `value` arguments were given
    TERNARY_ERR_TYPE = -15,  // not a buffer of the declared type, or not an int
    TERNARY_ERR_READONLY = -16, // an output or scratch cannot be written
};

// One argument: a buffer (data, size in bytes) or, for TERNARY_INT, a number.
typedef struct {
    void *data;
    size_t size;
    int32_t value;
} ternary_arg;

// What went wrong; which fields are set depends on the code.
typedef struct {
    int32_t code;
    int32_t value, low, high;
    uint64_t needed, index;
    const ternary_arg *argument, *other; // elements of the array of arguments
} ternary_error;

// Element type of a buffer argument.
typedef enum { TERNARY_INT, TERNARY_I8, TERNARY_U8, TERNARY_I16, TERNARY_I32 } ternary_type;

// How an operation uses a buffer. Whatever it writes must overlap no other argument, except that
// TERNARY_IN_PLACE is an output that may be exactly the buffer of the first argument.
typedef enum { TERNARY_IN, TERNARY_OUT, TERNARY_IN_PLACE, TERNARY_INOUT, TERNARY_SCRATCH } ternary_use;

typedef struct {
    const char *name;
    uint8_t type; // ternary_type
    uint8_t use;  // ternary_use
} ternary_parameter;

typedef struct {
    const char *name;
    const char *doc; // one line: what it computes, shapes, SPEC rule
    int32_t (*call)(const ternary_arg *arguments, ternary_error *error);
    const ternary_parameter *parameters;
    size_t parameter_count;
    int32_t has_result; // Python returns the result; otherwise None
} ternary_operation;

extern const ternary_operation ternary_operations[]; // the last one's name is NULL

// Check the arguments (bytes, code of the typecode's character, bytes to leave free in one block) of a
// binding's own `arena` and `heap`, which takes the first two of them, and return the size of an item.
extern const ternary_operation ternary_arena[1], ternary_heap[1];

// The door: checks that buffers are not empty, are whole elements, aligned and apart, then calls the
// operation.
int32_t ternary_call(const ternary_operation *operation, const ternary_arg *arguments, ternary_error *error);

// Rows of primitives (primitives.h) that this build has: names by number, NULL beyond the last, the default
// first; and the choice of one.
const char *ternary_row_name(size_t number);
void ternary_use_row(size_t number);

// Whether a buffer of items with this struct-module typecode may stand for the type: its own typecode, or
// plain bytes.
int32_t ternary_accepts(int32_t type, int32_t typecode, size_t item_size);

// Both write a zero-terminated text, cut to `size` > 0, and return it: "linear(x, weight, ...)" and a message
// such as "linear: bias has 20 bytes, needs 32".
const char *ternary_signature(const ternary_operation *operation, char *text, size_t size);
const char *ternary_error_message(const ternary_operation *operation, const ternary_arg *arguments,
                                  const ternary_error *error, char *text, size_t size);

#endif
