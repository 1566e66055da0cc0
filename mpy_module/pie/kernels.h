// SPDX-License-Identifier: MIT
// The functions in this directory's .S files. Each needs its buffers on multiples of 16, strides too, and
// counts >= 1; pie.c sees to that. PIE ignores the low bits of addresses, so nothing else would notice.
//
// All code lies in .iram1: hardware loops stay within 256 bytes and their first instruction within an aligned
// word, as the assembler arranges.

#ifndef TERNARY_PIE_KERNELS_H
#define TERNARY_PIE_KERNELS_H

#include <stdint.h>

// What the products of products.S read; offsets are in products.S, too.
typedef struct {
    const int8_t *x;     // [rows, 16 groups]
    const int8_t *panel; // [16 groups, 16]
    int8_t *out;         // a row's 16 outputs, or 40 bytes of pie_sums
    uint32_t rows, groups;
    uint32_t x_skip;     // from a row's end to the next one's start
    uint32_t out_stride; // bytes
    const void
        *begin; // pie_linear: the accumulators as pie_sums writes them; pie_values: (n, m) for each row
    uint32_t shift;
    const int8_t *multiplier; // pie_linear
} pie_product;

void pie_linear(const pie_product *p);
void pie_scores(const pie_product *p);
void pie_values(const pie_product *p);
// One row's accumulators: lanes 0-5 and the start of 6 of each half of QACC, then the rest of both.
void pie_sums(const pie_product *p);

void pie_decode(const uint8_t *packed, uint32_t vectors, int8_t *trits);

// 8 keys of 16 * chunks bytes to the 8 bytes at `panel` and every 16 bytes on.
void pie_transpose(const int8_t *keys, uint32_t stride, uint32_t chunks, int8_t *panel);
void pie_gather(const int8_t *in, uint32_t stride, uint32_t rows, int8_t *panel);
// The largest sum of |x| in a row, with 127 for |-128|.
uint32_t pie_magnitude(const int8_t *x, uint32_t stride, uint32_t rows, uint32_t groups);

int32_t pie_top(const int8_t *x, uint32_t vectors);             // the largest
int32_t pie_least(const int8_t *x, uint32_t vectors);           // the smallest
uint32_t pie_total(const int8_t *x, uint32_t vectors);          // of x >= 0
void pie_halve(int8_t *x, uint32_t vectors, uint32_t halvings); // of x >= 0
// words[i] = the byte table[i], in the first 8 bits
void pie_widen(const int8_t *table, uint32_t *words);
// out = words[the byte x ^ flip]; no x reaches beyond the table that words points into, or before it.
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
// `rows` times `vectors`; `skip`: bytes from the end of one stretch of `from` to the start of the next.
void pie_copy(int8_t *to, const int8_t *from, uint32_t vectors, uint32_t rows, uint32_t skip);

#endif
