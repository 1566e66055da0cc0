// SPDX-License-Identifier: MIT
// The functions in this directory's .S files. Buffers must be aligned to 16 bytes, strides multiples of 16,
// and counts at least 1; pie.c ensures this. PIE ignores the low bits of addresses, so a violation is silent.
//
// All code is in section .iram1. A hardware loop's body is at most 256 bytes long; the assembler aligns its
// first instruction within a word.

#ifndef TERNARY_PIE_KERNELS_H
#define TERNARY_PIE_KERNELS_H

#include <stdint.h>

// Arguments of the product kernels; products.S repeats the offsets.
typedef struct {
    const int8_t *x;     // [rows, 16 groups]
    const int8_t *panel; // [16 groups, 16]
    int8_t *out;         // a row's 16 outputs, or 40 bytes of pie_sums
    uint32_t rows, groups;
    uint32_t x_skip;     // bytes from a row's end to the next row's start
    uint32_t out_stride; // bytes
    const void
        *begin; // pie_linear: the accumulators as pie_sums writes them; pie_values: (n, m) for each row
    uint32_t shift;
    const int8_t *multiplier; // pie_linear
} pie_product;

// The same for patches in a picture: each is `runs` runs of 16 * groups values.
typedef struct {
    const int8_t *x, *panel;
    int8_t *out;
    uint32_t patches, groups, runs;
    uint32_t x_skip,
        x_next;          // bytes from a run's end to the next run, and from a patch's end to the next patch
    uint32_t panel_skip; // bytes from a run's weights to the next run's
    uint32_t out_stride; // bytes
    const void *begin;
    uint32_t shift;
    const int8_t *multiplier;
} pie_patches;

void pie_linear(const pie_product *p);
// pie_linear in slices of the inputs. The accumulators of each row have 64 bytes: pie_first_slice and
// pie_slice write them to out, the others begin with them.
void pie_first_slice(const pie_product *p);
void pie_slice(const pie_product *p);
void pie_last_slice(const pie_product *p);
void pie_region(const pie_patches *p);
void pie_scores(const pie_product *p);
void pie_values(const pie_product *p);
// Stores one row's accumulators: the low four words of both halves of QACC, then the fifth of both (pack_half
// in pie.c has a diagram).
void pie_sums(const pie_product *p);

void pie_decode(const uint8_t *packed, uint32_t vectors, int8_t *trits);

// Transposes 8 keys of 16 * chunks bytes to the first 8 bytes of each row of `panel`.
void pie_transpose(const int8_t *keys, uint32_t stride, uint32_t chunks, int8_t *panel);
void pie_gather(const int8_t *in, uint32_t stride, uint32_t rows, int8_t *panel);
// The largest sum of |x| of a row, with |-128| counted as 127.
uint32_t pie_magnitude(const int8_t *x, uint32_t stride, uint32_t rows, uint32_t groups);

int32_t pie_least(const int8_t *x, uint32_t vectors);  // the smallest
uint32_t pie_total(const int8_t *x, uint32_t vectors); // of x >= 0
// x >>= halvings, for x >= 0; returns the sum.
int32_t pie_halve(int8_t *x, uint32_t vectors, uint32_t halvings);

// The accumulators as pie_sums writes them for 16 sums.
void pie_pack(const int16_t *sums, void *accumulators);

// Rows of scores of the same length.
typedef struct {
    const uint32_t *words; // of pie_widen
    uint32_t vectors, unused[2];
    int8_t keep[16], least[16]; // of the last vector: -1 and 0 in lanes of the row, 0 and -128 behind it
} __attribute__((aligned(16))) pie_row;
// 7.2 for a row: x to weights, zeros behind the last; returns their sum. They may be the same buffer.
int32_t pie_softmax(const int8_t *x, int8_t *weights, const pie_row *row);

// words[i] = (uint8_t)table[i]
void pie_widen(const int8_t *table, uint32_t *words);
// out = words[(uint8_t)(x ^ flip)]
void pie_lookup(const int8_t *x, uint32_t vectors, const uint32_t *words, uint32_t flip, int8_t *out);

void pie_residual_start(int16_t *residual, const int8_t *y, uint32_t vectors, uint32_t shift);
void pie_residual_add(int16_t *residual, const int8_t *y, uint32_t vectors, uint32_t shift);

int32_t pie_sum(const int16_t *x, uint32_t vectors);
// vectors <= 63, so that the sum stays within 40 bits.
void pie_squares(const int16_t *x, uint32_t vectors, int32_t mean, uint64_t *sum);

typedef struct {
    const int16_t *x, *gamma, *beta;
    int8_t *y;
    uint32_t pairs; // of vectors: 16 outputs
    int32_t mean, factor, shift;
} pie_norm_row;
void pie_norm(const pie_norm_row *row);

void pie_clear(int8_t *to, uint32_t vectors);
// Copies `rows` runs of `vectors`; `skip`: bytes from the end of a run of `from` to the start of the next.
void pie_copy(int8_t *to, const int8_t *from, uint32_t vectors, uint32_t rows, uint32_t skip);

#endif
