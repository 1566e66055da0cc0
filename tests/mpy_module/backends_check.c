// SPDX-License-Identifier: MIT
// Every backend of this build that the machine can run, against the reference: the same bytes for random and
// extreme inputs of many sizes, at any address, in memory that ends where the data does. Prints a line for
// each backend; status 0 if all are right.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operations.h"
#include "ternary.h"

enum { MOST = 16 };

static uint32_t state = 1;

static uint32_t draw(uint32_t below) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
}

// Memory of exactly that size, `off` bytes from a multiple of 16.
typedef struct {
    uint8_t *memory, *data;
    size_t size;
} bytes;

static bytes filled(size_t size, size_t off, int extreme) {
    bytes b = {.memory = malloc(size + off), .size = size};
    b.data = b.memory + off;
    for (size_t i = 0; i < size; i++) {
        b.data[i] = (uint8_t)(extreme ? (draw(2) ? 0x80 : 0x7f) : draw(256));
    }
    return b;
}

static ternary_arg arg(bytes b) {
    return (ternary_arg){.data = b.data, .size = b.size};
}

static ternary_arg number(int32_t value) {
    return (ternary_arg){.value = value};
}

static const ternary_operation *operation(const char *name) {
    const ternary_operation *found = ternary_operations;
    while (strcmp(found->name, name) != 0) {
        found++;
    }
    return found;
}

// Calls with every backend, the last one being the reference; returns how many differ from it and marks them.
static int compare(const char *name, ternary_arg *arguments, bytes out, int *wrong) {
    ternary_error error;
    size_t count = 0;
    int failures = 0;
    uint8_t *found[MOST];
    for (; ternary_backend_name(count); count++) {
        ternary_use_backend(count);
        memset(out.data, 0x55, out.size);
        int32_t result = ternary_call(operation(name), arguments, &error);
        if (result < 0) {
            printf("%s is refused: %d\n", name, (int)result);
            exit(2);
        }
        found[count] = malloc(out.size);
        memcpy(found[count], out.data, out.size);
    }
    for (size_t i = 0; i < count; i++) {
        if (memcmp(found[i], found[count - 1], out.size) != 0) {
            wrong[i]++;
            failures++;
        }
    }
    for (size_t i = 0; i < count; i++) {
        free(found[i]);
    }
    return failures;
}

static size_t scratch_for(const char *name, int32_t first, int32_t second) {
    ternary_arg arguments[2] = {number(first), number(second)};
    ternary_error error;
    return (size_t)ternary_call(operation(name), arguments, &error);
}

// From the least to the most.
static size_t scratch_between(const char *name, int32_t first, int32_t second) {
    char least[40];
    snprintf(least, sizeof(least), "%s_least", name);
    size_t low = scratch_for(least, first, second), high = scratch_for(name, first, second);
    return low + draw((uint32_t)(high - low + 1));
}

static void check_linear(size_t rows, size_t inputs, size_t outputs, size_t off, int extreme, int *wrong) {
    size_t tiles = (outputs + 15) / 16;
    bytes x = filled(rows * inputs, off, extreme), weight = filled(tiles * ((inputs + 4) / 5) * 16, off, 0);
    bytes bias = filled(outputs * 2, 0, 0), multiplier = filled(outputs, off, 0),
          shift = filled(tiles, off, 0);
    bytes out = filled(rows * outputs, off, 0),
          scratch = filled(scratch_between("linear_scratch", (int32_t)inputs, 0), off, 0);
    for (size_t i = 0; i < outputs; i++) {
        multiplier.data[i] &= 127;
        bias.data[2 * i + 1] = (uint8_t)(draw(2) ? 0xff : 0); // 4.3 for every shift
    }
    for (size_t i = 0; i < tiles; i++) {
        shift.data[i] &= 7;
    }
    ternary_arg arguments[] = {arg(x),     arg(weight), arg(bias),   arg(multiplier),
                               arg(shift), arg(out),    arg(scratch)};
    if (compare("linear", arguments, out, wrong)) {
        printf("linear: rows %zu, inputs %zu, outputs %zu, off %zu differ\n", rows, inputs, outputs, off);
    }
    bytes all[] = {x, weight, bias, multiplier, shift, out, scratch};
    for (size_t i = 0; i < 7; i++) {
        free(all[i].memory);
    }
}

static void check_attention(size_t tokens, size_t heads, size_t width, size_t off, int extreme, int *wrong) {
    size_t columns = heads * width;
    bytes qkv = filled(tokens * 3 * columns, off, extreme), table = filled(256, off, 0);
    bytes out = filled(tokens * columns, off, 0);
    bytes scratch = filled(scratch_between("attention_scratch", (int32_t)tokens, (int32_t)width), off, 0);
    for (size_t i = 0; i < 256; i++) {
        table.data[i] = (uint8_t)(127 >> (i / 16));
    }
    ternary_arg arguments[] = {arg(qkv),
                               number((int32_t)tokens),
                               number((int32_t)heads),
                               number((int32_t)draw(12)),
                               arg(table),
                               number(1),
                               arg(out),
                               number(0),
                               arg(scratch)};
    if (compare("attention", arguments, out, wrong)) {
        printf("attention: tokens %zu, heads %zu, width %zu, off %zu differ\n", tokens, heads, width, off);
    }
    free(qkv.memory), free(table.memory), free(out.memory), free(scratch.memory);
}

static void check_elements(size_t width, size_t off, int extreme, int *wrong) {
    size_t rows = 3, vectors = (width + 79) / 80;
    bytes x = filled(rows * width * 2, 0, extreme), gamma = filled(vectors * 16, off, 0),
          beta = filled(vectors * 16, off, 0);
    bytes out = filled(rows * width, off, 0);
    bytes scratch = filled(scratch_for("layernorm_scratch", (int32_t)width, 0), off, 0);
    ternary_arg norm[] = {arg(x),
                          arg(gamma),
                          arg(beta),
                          number(16384 + (int32_t)draw(16384)),
                          number((int32_t)draw(16)),
                          number((int32_t)draw(32640)),
                          number((int32_t)width),
                          arg(out),
                          arg(scratch)};
    if (compare("layernorm", norm, out, wrong)) {
        printf("layernorm: width %zu, off %zu differ\n", width, off);
    }
    bytes bytes_in = filled(width, off, extreme), table = filled(256, off, 0), looked = filled(width, off, 0);
    ternary_arg lookup[] = {arg(bytes_in), arg(table), arg(looked)};
    if (compare("lookup", lookup, looked, wrong)) {
        printf("lookup: %zu, off %zu differ\n", width, off);
    }
    bytes trits = filled(vectors * 80, off, 0);
    ternary_arg decode[] = {arg(gamma), arg(trits)};
    if (compare("decode", decode, trits, wrong)) {
        printf("decode: %zu differ\n", width);
    }
    bytes all[] = {x, gamma, beta, out, scratch, bytes_in, table, looked, trits};
    for (size_t i = 0; i < 9; i++) {
        free(all[i].memory);
    }
}

int main(void) {
    static const size_t depths[] = {1,  2,  3,   4,   5,   15,  16,   17,   63,
                                    64, 65, 127, 192, 255, 259, 1021, 2048, 4032};
    static const size_t counts[] = {1, 15, 16, 17, 33, 48, 63, 64, 65, 130};
    int wrong[MOST] = {0}, failed = 0;
    for (size_t i = 0; i < sizeof(depths) / sizeof(*depths); i++) {
        for (size_t j = 0; j < sizeof(counts) / sizeof(*counts); j++) {
            size_t rows = 1 + draw(depths[i] > 300 ? 3 : 20);
            check_linear(rows, depths[i], counts[j], draw(16), (int)draw(2), wrong);
        }
    }
    check_linear(1030, 8, 20, 3, 0, wrong); // more rows than are taken at a time
    for (size_t tokens = 1; tokens < 300; tokens += 1 + draw(23)) {
        check_attention(tokens, 1 + draw(3), 1 + draw(70), draw(16), (int)draw(2), wrong);
    }
    for (size_t width = 1; width < 300; width += 1 + draw(5)) {
        check_elements(width, draw(16), (int)draw(2), wrong);
    }
    for (size_t i = 0; ternary_backend_name(i); i++) {
        printf("%s %s\n", ternary_backend_name(i), wrong[i] ? "differs" : "equals");
        failed |= wrong[i];
    }
    return failed != 0;
}
