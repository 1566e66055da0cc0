// SPDX-License-Identifier: MIT
// For test_settings.py: threads call operations while another thread sets cores and backends.
//
// settings_check NUMBER makes that many calls in each thread, and prints of all calls how many were refused,
// how many gave other bytes than alone, and how many wrote behind their scratch.
//
// Built with TERNARY_PIE and, in place of the chip's backend, one that keeps the elements of panels negated.
// An operation whose primitives are all of one backend computes the same as ever; one with primitives of both
// does not.

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Copies of the reference backend's primitives.
#define ternary_reference copied_reference
#include "reference.c"
#undef ternary_reference

#include "operations.h"
#include "parallel.h"

#ifdef __SANITIZE_ADDRESS__
enum { GUARD = 0 }; // the sanitizer has its own
#else
enum { GUARD = 16384 };
#endif
enum { CALLERS = 3, GUARD_BYTE = 0xa5, MOST_PANEL = 16384 };

static void negate(int8_t *panel, size_t count) {
    for (size_t i = 0; i < count; i++) {
        panel[i] = (int8_t)-panel[i];
    }
}

static void negated_decode(const uint8_t *packed, size_t vectors, int8_t *trits) {
    decode(packed, vectors, trits);
    negate(trits, vectors * TERNARY_VECTOR_TRITS);
}

static void negated_transpose(const int8_t *keys, size_t stride, size_t lanes, size_t depth, int8_t *panel) {
    transpose(keys, stride, lanes, depth, panel);
    negate(panel, depth * TERNARY_LANES);
}

static void negated_gather(const int8_t *in, size_t stride, size_t rows, size_t lanes, int8_t *panel) {
    gather(in, stride, rows, lanes, panel);
    negate(panel, rows * TERNARY_LANES);
}

// The product with the elements of `count` panels as they are.
static ternary_product plain(const ternary_product *p, size_t count, int8_t *panels) {
    ternary_product product = *p;
    size_t size = count * ternary_round_up(p->depth) * TERNARY_LANES;
    product.panel = memcpy(panels, p->panel, size);
    negate(panels, size);
    return product;
}

static void negated_linear(const ternary_product *p, const ternary_scale *scale) {
    int8_t panel[MOST_PANEL];
    ternary_product product = plain(p, 1, panel);
    linear(&product, scale);
}

static void negated_scores(const ternary_product *p, size_t columns, int32_t shift) {
    int8_t panels[MOST_PANEL];
    ternary_product product = plain(p, (size_t)ternary_ceil_div(columns, TERNARY_LANES), panels);
    scores(&product, columns, shift);
}

static void negated_values(const ternary_product *p, const ternary_mean *means) {
    int8_t panel[MOST_PANEL];
    ternary_product product = plain(p, 1, panel);
    values(&product, means);
}

const ternary_backend ternary_pie = {
    .name = "negated",
    .decode = negated_decode,
    .linear = negated_linear,
    .sums = sums,
    .scores = negated_scores,
    .values = negated_values,
    .softmax = softmax,
    .total = total,
    .no_signs = no_signs,
    .transpose = negated_transpose,
    .gather = negated_gather,
    .lookup = lookup,
    .residual_start = residual_start,
    .residual_add = residual_add,
    .sum = sum,
    .squares = squares,
    .norm = norm,
    .copy = copy,
    .clear = clear,
    .prefetch = prefetch,
};

// A call: its last buffer but one number is the output, and scratch comes last.
enum { MOST_ARGUMENTS = 9 };

typedef struct {
    const ternary_operation *operation, *measure;
    ternary_arg arguments[MOST_ARGUMENTS], sizes[2];
    size_t count, out;
    int8_t *expected;
    size_t scratch[2]; // bytes for one core and for two
} job;

static const ternary_operation *operation_named(const char *name) {
    const ternary_operation *operation = ternary_operations;
    while (strcmp(operation->name, name) != 0) {
        operation++;
    }
    return operation;
}

static void put(job *j, void *data, size_t size, int32_t value) {
    j->arguments[j->count++] = (ternary_arg){.data = data, .size = size, .value = value};
}

static void *noise(size_t size, int32_t low, int32_t high) {
    static uint32_t state = 1;
    int8_t *bytes = malloc(size);
    for (size_t i = 0; i < size; i++) {
        state = state * 1103515245 + 12345;
        bytes[i] = (int8_t)(low + (int32_t)((state >> 8) % (uint32_t)(high - low + 1)));
    }
    return bytes;
}

static int32_t called(job *j, size_t scratch, bool *beyond) {
    uint8_t *memory = malloc(scratch + GUARD);
    memset(memory, GUARD_BYTE, scratch + GUARD);
    ternary_arg arguments[MOST_ARGUMENTS];
    memcpy(arguments, j->arguments, sizeof(arguments));
    arguments[j->count] = (ternary_arg){.data = memory, .size = scratch};
    ternary_error error;
    int32_t result = ternary_call(j->operation, arguments, &error);
    *beyond = false;
    for (size_t i = scratch; i < scratch + GUARD; i++) {
        *beyond |= memory[i] != GUARD_BYTE;
    }
    free(memory);
    return result;
}

// Measures for both numbers of cores, and computes what the call gives alone.
static void prepare(job *j) {
    bool beyond;
    ternary_error error;
    for (int32_t cores = 1; cores <= 2; cores++) {
        ternary_use_cores(cores);
        j->scratch[cores - 1] = (size_t)ternary_call(j->measure, j->sizes, &error);
    }
    ternary_use_cores(1);
    if (called(j, j->scratch[0], &beyond) != 0 || beyond) {
        abort();
    }
    const ternary_arg *out = j->arguments + j->out;
    j->expected = memcpy(malloc(out->size), out->data, out->size);
}

// Rows are copied, five at a time, and a panel is larger than their copies.
enum { ROWS = 60, INPUTS = 769, OUTPUTS = 32, TILES = 2, VECTORS = 154 };

static job linear_job(void) {
    job j = {.operation = operation_named("linear"), .measure = operation_named("linear_scratch")};
    j.sizes[0].value = INPUTS;
    put(&j, noise(ROWS * INPUTS, -128, 127), ROWS * INPUTS, 0);
    put(&j, noise(TILES * VECTORS * 16, -128, 127), TILES * VECTORS * 16, 0);
    put(&j, calloc(OUTPUTS, 2), OUTPUTS * 2, 0);
    put(&j, noise(OUTPUTS, 64, 127), OUTPUTS, 0);
    put(&j, noise(TILES, 1, 2), TILES, 0);
    j.out = j.count;
    put(&j, malloc(ROWS * OUTPUTS), ROWS * OUTPUTS, 0);
    prepare(&j);
    return j;
}

enum { TOKENS = 65, HEADS = 2, HEAD_WIDTH = 16, WIDTH = HEADS * HEAD_WIDTH };

static job attention_job(void) {
    job j = {.operation = operation_named("attention"), .measure = operation_named("attention_scratch")};
    j.sizes[0].value = TOKENS;
    j.sizes[1].value = HEAD_WIDTH;
    put(&j, noise(TOKENS * 3 * WIDTH, -128, 127), TOKENS * 3 * WIDTH, 0);
    put(&j, NULL, 0, TOKENS);
    put(&j, NULL, 0, HEADS);
    put(&j, NULL, 0, 9);
    int8_t *table = noise(TERNARY_TABLE_SIZE, 0, 0);
    for (size_t i = 0; i < TERNARY_TABLE_SIZE; i++) {
        table[i] = (int8_t)(127 >> (i / 16));
    }
    put(&j, table, TERNARY_TABLE_SIZE, 0);
    put(&j, NULL, 0, 1);
    j.out = j.count;
    put(&j, malloc(TOKENS * WIDTH), TOKENS * WIDTH, 0);
    put(&j, NULL, 0, 0);
    prepare(&j);
    return j;
}

static int done;

typedef struct {
    job jobs[2];
    uint32_t wanted, refused, wrong, beyond;
} caller;

static void *call_jobs(void *context) {
    caller *c = context;
    for (uint32_t call = 0; call < c->wanted; call++) {
        job *j = c->jobs + call % 2;
        const ternary_arg *out = j->arguments + j->out;
        bool beyond;
        memset(out->data, 0, out->size);
        int32_t result = called(j, j->scratch[call / 2 % 2], &beyond);
        c->refused += result < 0;
        c->wrong += result >= 0 && memcmp(out->data, j->expected, out->size) != 0;
        c->beyond += beyond;
    }
    return NULL;
}

static void *set(void *unused) {
    (void)unused;
    for (uint32_t i = 0; !__atomic_load_n(&done, __ATOMIC_RELAXED); i++) {
        ternary_use_cores((int32_t)(1 + i % 2));
        ternary_use_backend(i / 2 % 2);
    }
    return NULL;
}

int main(int count, char **arguments) {
    static caller callers[CALLERS];
    pthread_t threads[CALLERS], setter;
    for (size_t i = 0; i < CALLERS; i++) {
        callers[i].wanted = count == 2 ? (uint32_t)atoi(arguments[1]) : 0;
        callers[i].jobs[0] = linear_job();
        callers[i].jobs[1] = attention_job();
    }
    pthread_create(&setter, NULL, set, NULL);
    for (size_t i = 0; i < CALLERS; i++) {
        pthread_create(threads + i, NULL, call_jobs, callers + i);
    }
    caller all = {.wanted = 0};
    for (size_t i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        all.refused += callers[i].refused;
        all.wrong += callers[i].wrong;
        all.beyond += callers[i].beyond;
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELAXED);
    pthread_join(setter, NULL);
    printf("%u refused, %u wrong, %u beyond\n", all.refused, all.wrong, all.beyond);
    return 0;
}
