// SPDX-License-Identifier: MIT
// Products by instructions that add products of bytes four at a time. The bytes of a panel are in that order,
// panel[k / 4][lane][k mod 4], with k up to a multiple of 4; those beyond the depth meet zeros. A block of
// rows of x times some panels is summed in registers.
//
// A backend defines what follows, then includes this file:
//
//     TILES                           panels of the largest block, 1 or 4
//     ROWS                            rows of the largest block, at most 12
//     ROWS_4, ROWS_2, ROWS_1          rows of a block of 4, 2 panels and 1 panel
//     WEIGHT_OFFSET, KEY_OFFSET       what a panel holds above the weight or the key
//     sums16, bytes16                 16 int32; 16 int8
//     sums_of(const int32_t *start, int32_t more), same_sums(int32_t)
//     shifted(sums16, int32_t shift)  sat8(sums >> shift)
//     scaled(bytes16, bytes16 multiplier)                                 (v * multiplier) >> 7
//     same_bytes(int8_t), load_bytes(const int8_t *), store_bytes(int8_t *, bytes16)
//     interleave(bytes16, bytes16, bytes16, bytes16, int8_t *panel)       stores four rows in a panel's order
//     digits(bytes16 packed, bytes16 rows[5])                             2.3: digits - 1 + WEIGHT_OFFSET
//     row_sum(const int8_t *x, size_t depth)                              the sum of x
//     dot_block(sums, x, x_stride, panels, panel_stride, depth, rows, tiles, purpose)

#ifndef TERNARY_DOT_H
#define TERNARY_DOT_H

#include "loops.h"
#include "simd.h"

// Rows whose sums of x are kept at a time.
enum { CHUNK = 512 };

typedef struct {
    const int8_t *x, *panels;
    size_t x_stride, panel_stride, depth;
    int8_t *out; // of the first panel
    size_t out_stride;
    size_t last; // lanes of the last panel, 1..16
    int32_t start[TILES][TERNARY_LANES];
    int32_t shift[TILES];
    bytes16 multiplier[TILES];
    const ternary_mean *means;
    const int32_t *offsets; // of each row: minus what the panels' offset adds
} block;

ALWAYS_INLINE void block_of(const block *b, size_t row, size_t rows, size_t tiles, purpose to) {
    sums16 sums[ROWS][TILES];
    const int32_t offset = to == LINEAR ? WEIGHT_OFFSET : to == SCORES ? KEY_OFFSET : 0;
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        int32_t more = offset ? b->offsets[row + i] : 0;
        UNROLL
        for (size_t t = 0; t < tiles; t++) {
            sums[i][t] = to == LINEAR ? sums_of(b->start[t], more) : same_sums(more);
        }
    }
    dot_block(sums, b->x + row * b->x_stride, b->x_stride, b->panels, b->panel_stride, b->depth, rows, tiles,
              to);
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        int8_t *out = b->out + (row + i) * b->out_stride;
        UNROLL
        for (size_t t = 0; t < tiles; t++) {
            bytes16 v = shifted(sums[i][t], to == VALUES ? b->means[row + i].shift : b->shift[t]);
            if (to == LINEAR) {
                v = scaled(v, b->multiplier[t]);
            } else if (to == VALUES) {
                v = scaled(v, same_bytes(b->means[row + i].multiplier));
            }
            if (t + 1 < tiles || b->last == TERNARY_LANES) {
                store_bytes(out + t * TERNARY_LANES, v);
            } else {
                int8_t rest[TERNARY_LANES];
                store_bytes(rest, v);
                memcpy(out + t * TERNARY_LANES, rest, b->last);
            }
        }
    }
}

// Functions of all rows, for each number of panels and purpose.
#define BLOCK(count, tiles, most, to)                                                                        \
    case count:                                                                                              \
        if (count <= most) {                                                                                 \
            block_of(b, row, count <= most ? count : most, tiles, to);                                       \
        }                                                                                                    \
        break;
#define BLOCKS(name, tiles, most, to)                                                                        \
    static void name(const block *b, size_t rows) {                                                          \
        size_t row = 0;                                                                                      \
        for (; row + most <= rows; row += most) {                                                            \
            block_of(b, row, most, tiles, to);                                                               \
        }                                                                                                    \
        if (rows - row >= 6 && most > 6) {                                                                   \
            block_of(b, row, most > 6 ? 6 : most, tiles, to);                                                \
            row += 6;                                                                                        \
        }                                                                                                    \
        switch (rows - row) {                                                                                \
            BLOCK(1, tiles, most, to)                                                                        \
            BLOCK(2, tiles, most, to)                                                                        \
            BLOCK(3, tiles, most, to)                                                                        \
            BLOCK(4, tiles, most, to)                                                                        \
            BLOCK(5, tiles, most, to)                                                                        \
        }                                                                                                    \
    }

BLOCKS(linear_1, 1, ROWS_1, LINEAR)
BLOCKS(scores_1, 1, ROWS_1, SCORES)
BLOCKS(values_1, 1, ROWS_1, VALUES)
#if TILES >= 4
BLOCKS(linear_2, 2, ROWS_2, LINEAR)
BLOCKS(linear_4, 4, ROWS_4, LINEAR)
BLOCKS(scores_2, 2, ROWS_2, SCORES)
BLOCKS(scores_4, 4, ROWS_4, SCORES)
#endif

// Panels of the next block: 4, 2 or 1 of those that are left.
static size_t tiles_of(size_t left) {
    return TILES >= 4 && left >= 4 ? 4 : TILES >= 4 && left >= 2 ? 2 : 1;
}

static void linear_rows(const block *b, size_t rows, size_t tiles) {
#if TILES >= 4
    if (tiles > 1) {
        (tiles == 4 ? linear_4 : linear_2)(b, rows);
        return;
    }
#endif
    (void)tiles;
    linear_1(b, rows);
}

static void scores_rows(const block *b, size_t rows, size_t tiles) {
#if TILES >= 4
    if (tiles > 1) {
        (tiles == 4 ? scores_4 : scores_2)(b, rows);
        return;
    }
#endif
    (void)tiles;
    scores_1(b, rows);
}

static void offsets_of(const int8_t *x, size_t stride, size_t depth, size_t rows, int32_t offset,
                       int32_t *offsets) {
    for (size_t row = 0; row < rows; row++) {
        offsets[row] = -offset * row_sum(x + row * stride, depth);
    }
}

#ifndef INTERLEAVE_TRITS
#define INTERLEAVE_TRITS interleave
#endif

#ifndef UNPACK
#define UNPACK unpack
// Unpacks a tile to a panel of `depth` rows, rounded up to a multiple of 4.
static void unpack(const uint8_t *packed, size_t depth, int8_t *panel) {
    const size_t vectors = (depth + TERNARY_TRITS_PER_BYTE - 1) / TERNARY_TRITS_PER_BYTE;
    for (size_t vector = 0, k = 0; k < depth; vector += 4) { // 4 vectors hold 5 groups of 4 rows
        bytes16 rows[20];
        UNROLL
        for (size_t i = 0; i < 4; i++) {
            size_t from = vector + i < vectors ? vector + i : vectors - 1; // any
            digits(load_bytes((const int8_t *)packed + from * TERNARY_LANES), rows + 5 * i);
        }
        UNROLL
        for (size_t i = 0; i < 20; i += 4, k += 4) {
            if (k < depth) {
                INTERLEAVE_TRITS(rows[i], rows[i + 1], rows[i + 2], rows[i + 3], panel + k * TERNARY_LANES);
            }
        }
    }
}
#endif

static void prepare(block *b, const ternary_tiles *all, size_t tile, size_t tiles) {
    for (size_t t = 0; t < tiles; t++) {
        size_t first = (tile + t) * TERNARY_LANES, lanes = ternary_smaller(all->lanes - first, TERNARY_LANES);
        int8_t multiplier[TERNARY_LANES] = {0};
        memcpy(multiplier, all->multiplier + first, lanes);
        b->multiplier[t] = load_bytes(multiplier);
        b->shift[t] = all->shift[tile + t];
        int32_t bias_shift = ternary_max(b->shift[t] - 6, 0); // 4.2
        for (size_t lane = 0; lane < TERNARY_LANES; lane++) {
            b->start[t][lane] = lane < lanes ? all->bias[first + lane] * (1 << bias_shift) : 0;
        }
        b->last = lanes;
    }
    b->out = all->out + tile * TERNARY_LANES;
}

static void tiles(const ternary_tiles *all) {
    const size_t vectors = (all->depth + TERNARY_TRITS_PER_BYTE - 1) / TERNARY_TRITS_PER_BYTE;
    const size_t count = (all->lanes + TERNARY_LANES - 1) / TERNARY_LANES;
    int32_t offsets[CHUNK];
    block b = {
        .x = all->x,
        .panels = all->panels,
        .x_stride = all->x_stride,
        .panel_stride = all->panel_stride,
        .depth = all->depth,
        .out_stride = all->out_stride,
        .offsets = offsets,
    };
    for (size_t done = 0; done < all->rows; done += CHUNK) {
        size_t rows = ternary_smaller(all->rows - done, CHUNK);
        b.x = all->x + done * all->x_stride;
        if (WEIGHT_OFFSET) {
            offsets_of(b.x, b.x_stride, b.depth, rows, WEIGHT_OFFSET, offsets);
        }
        for (size_t tile = 0, now; tile < count; tile += now) {
            now = tiles_of(count - tile);
            for (size_t t = 0; t < now; t++) {
                const uint8_t *packed = all->packed + (tile + t) * vectors * TERNARY_LANES;
                UNPACK(packed, b.depth, all->panels + t * b.panel_stride);
            }
            prepare(&b, all, tile, now);
            b.out += done * b.out_stride;
            linear_rows(&b, rows, now);
        }
    }
}

static void scores(const ternary_product *p, size_t columns, int32_t shift) {
    const size_t count = (columns + TERNARY_LANES - 1) / TERNARY_LANES;
    int32_t offsets[CHUNK];
    block b = {
        .x_stride = p->x_stride,
        .panel_stride = ternary_round_up(p->depth) * TERNARY_LANES,
        .depth = p->depth,
        .out_stride = p->out_stride,
        .offsets = offsets,
    };
    for (size_t t = 0; t < TILES; t++) {
        b.shift[t] = shift;
    }
    for (size_t done = 0; done < p->rows; done += CHUNK) {
        size_t rows = ternary_smaller(p->rows - done, CHUNK);
        b.x = p->x + done * p->x_stride;
        if (KEY_OFFSET) {
            offsets_of(b.x, b.x_stride, b.depth, rows, KEY_OFFSET, offsets);
        }
        for (size_t tile = 0, now; tile < count; tile += now) {
            now = tiles_of(count - tile);
            b.panels = p->panel + tile * b.panel_stride;
            b.out = p->out + done * p->out_stride + tile * TERNARY_LANES;
            b.last = ternary_smaller(columns - (tile + now - 1) * TERNARY_LANES, TERNARY_LANES);
            scores_rows(&b, rows, now);
        }
    }
}

static void values(const ternary_product *p, const ternary_mean *means) {
    block b = {
        .x = p->x,
        .panels = p->panel,
        .x_stride = p->x_stride,
        .depth = p->depth,
        .out = p->out,
        .out_stride = p->out_stride,
        .last = p->lanes,
        .means = means,
    };
    values_1(&b, p->rows);
}

// Keys to a panel: what is a row of it is a word of each key.
static void transpose(const int8_t *keys, size_t stride, size_t lanes, size_t depth, int8_t *panel) {
    const int32_t offset = KEY_OFFSET ? INT32_C(-0x7f7f7f80) : 0; // each byte 128: a change of sign adds it
    for (size_t lane = 0; lane < TERNARY_LANES; lane++) {
        for (size_t k = 0; k < depth; k += 4) {
            const int8_t *key = keys + lane * stride + k;
            int32_t word = lane >= lanes ? 0 : k + 4 <= depth ? word_of(key) : tail_of(key, depth - k);
            word ^= offset;
            memcpy(panel + k * TERNARY_LANES + lane * 4, &word, sizeof(word));
        }
    }
}

static void gather(const int8_t *in, size_t stride, size_t rows, size_t lanes, int8_t *panel) {
    const size_t padded = ternary_round_up(rows);
    for (size_t row = 0; row < padded; row += 4) {
        bytes16 group[4];
        UNROLL
        for (size_t i = 0; i < 4; i++) {
            int8_t part[TERNARY_LANES] = {0};
            const int8_t *from = in + (row + i) * stride;
            if (row + i < rows && lanes == TERNARY_LANES) {
                group[i] = load_bytes(from);
                continue;
            }
            if (row + i < rows) {
                memcpy(part, from, lanes);
            }
            group[i] = load_bytes(part);
        }
        interleave(group[0], group[1], group[2], group[3], panel + row * TERNARY_LANES);
    }
}

static void decode(const uint8_t *packed, size_t vectors, int8_t *trits) {
    for (size_t vector = 0; vector < vectors; vector++) {
        bytes16 rows[5];
        digits(load_bytes((const int8_t *)packed + vector * TERNARY_LANES), rows);
        UNROLL
        for (size_t i = 0; i < 5; i++) {
            store_bytes(trits + (vector * 5 + i) * TERNARY_LANES, minus_offset(rows[i]));
        }
    }
}

// A backend of these functions; SOFTMAX, LOOKUP and NORM may be its own, and what else it has defined.
#ifndef RESIDUAL_ADD
#define RESIDUAL_ADD residual_add
#endif
#ifndef SUM
#define SUM sum
#endif
#ifndef SQUARES
#define SQUARES squares
#endif
#ifndef COPY
#define COPY copy
#endif
#define DOT_BACKEND(backend, label)                                                                          \
    const ternary_backend backend = {                                                                        \
        .name = label,                                                                                       \
        .usable = usable,                                                                                    \
        .decode = decode,                                                                                    \
        .tiles = tiles,                                                                                      \
        .sums = sums,                                                                                        \
        .scores = scores,                                                                                    \
        .values = values,                                                                                    \
        .softmax = SOFTMAX,                                                                                  \
        .total = total,                                                                                      \
        .no_signs = no_signs,                                                                                \
        .transpose = transpose,                                                                              \
        .gather = gather,                                                                                    \
        .lookup = LOOKUP,                                                                                    \
        .residual_start = residual_start,                                                                    \
        .residual_add = RESIDUAL_ADD,                                                                        \
        .sum = SUM,                                                                                          \
        .squares = SQUARES,                                                                                  \
        .norm = NORM,                                                                                        \
        .copy = COPY,                                                                                        \
        .clear = clear,                                                                                      \
        .prefetch = prefetch,                                                                                \
    }

#endif
