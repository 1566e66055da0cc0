// SPDX-License-Identifier: MIT
// Backends: the inner loops, in portable C or for a target's SIMD unit. A backend implements all functions of
// ternary_backend; all backends give the same bits for every input.

#ifndef TERNARY_BACKENDS_H
#define TERNARY_BACKENDS_H

#include <stdbool.h>

#include "ternary.h"

// Where a machine may lack the instructions of some backends. TERNARY_ESP32 on a PC is a stand-in with the
// chip's scratch.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(TERNARY_ESP32)
#define TERNARY_X86
#define TERNARY_DETECTED // what `usable` is there for
#endif

#if defined(__aarch64__) && defined(__GNUC__)
#define TERNARY_NEON
#define TERNARY_DETECTED
#endif

#ifdef __wasm_simd128__
#define TERNARY_WASM // a build for machines with it: modules are refused elsewhere
#endif

#if defined(TERNARY_DETECTED) || defined(TERNARY_WASM)
#define TERNARY_HEAP // a call may take megabytes of the system's memory

enum { TERNARY_CACHE_LINE = 64 };

// The first cache line in memory that has this many bytes to spare.
static inline int8_t *ternary_on_line(void *memory) {
    return (int8_t *)(((uintptr_t)memory + TERNARY_CACHE_LINE - 1) & ~(uintptr_t)(TERNARY_CACHE_LINE - 1));
}
#endif

// Panels of a layer's weights that `tiles` decodes at a time. One has room in a part's scratch, more are
// allocated.
#ifdef TERNARY_X86
enum { TERNARY_PANELS = 4 };
#else
enum { TERNARY_PANELS = 1 };
#endif

enum { TERNARY_VECTOR_TRITS = TERNARY_LANES * TERNARY_TRITS_PER_BYTE };

// A product of rows of x with a panel of 16 columns: sum[row][lane] = sum_k x[row][k] * panel[k][lane].
typedef struct {
    const int8_t *x;           // [rows, depth], rows `x_stride` bytes apart
    const int8_t *panel;       // [depth, 16], readable up to a multiple of 16 rows
    int8_t *spare;             // for `values` only: room for one row of x, rounded up to 16 bytes
    int8_t *out;               // [rows, lanes], rows `out_stride` bytes apart
    size_t rows, depth, lanes; // each >= 1, lanes <= 16
    size_t x_stride, out_stride;
} ternary_product;

// 7.5: n and m of a row.
typedef struct {
    uint8_t shift;
    int8_t multiplier;
} ternary_mean;

// 6.5, 6.6 for a row: y_i = sat16(sat16((sat16(x_i - mean) * gamma_i * factor) >> shift) + beta_i) >> 8.
typedef struct {
    const int16_t *gamma; // [width] of -1, 0, 1
    const int16_t *beta;  // [width], b_i * beta + 128
    size_t width;
    int32_t mean, factor, shift;
} ternary_norm;

// 4.1 for a tile: 16 biases and multipliers.
typedef struct {
    const int16_t *bias;
    const int8_t *multiplier;
    int32_t bias_shift, shift;
} ternary_scale;

// Patches of a picture (4.6), rows and columns of them, of which the same pixels are inside the picture:
// `runs` runs of `run` bytes. All bytes are multiples of 16.
typedef struct {
    const int8_t *x;                 // the first patch
    size_t panel, out;               // bytes to its weights and to its outputs
    size_t rows, columns, runs, run; // each >= 1
    size_t x_row, x_column, x_line;  // bytes from patch to patch, and from run to run
    size_t panel_line;               // bytes of the panel from run to run
    size_t out_row, out_column;      // bytes from patch to patch
} ternary_region;

// 4.1-4.5 for all columns of a layer: packed tiles (2.6) times rows of x.
typedef struct {
    const int8_t *x;       // [rows, depth], rows `x_stride` bytes apart, at any address
    const uint8_t *packed; // tiles of ceil(depth / 5) vectors
    const int16_t *bias;
    const int8_t *multiplier;
    const uint8_t *shift; // one for each tile
    int8_t *out;          // [rows, lanes], rows `out_stride` bytes apart
    size_t rows, depth, lanes, x_stride, out_stride;
    int8_t *panels;      // memory for TERNARY_PANELS panels, `panel_stride` bytes apart
    size_t panel_stride; // >= 16 * depth, rounded up to a multiple of 16
} ternary_tiles;

struct ternary_backend {
    const char *name;
    bool (*usable)(void); // whether the machine has its instructions; NULL: it has
    // A whole layer. NULL: tile by tile, by `decode` and `linear` or `regions`; with it, these
    // are NULL.
    void (*tiles)(const ternary_tiles *t);
    // 2.2-2.4: unpacks `vectors` * 16 bytes to `vectors` * 80 trits, row by row.
    void (*decode)(const uint8_t *packed, size_t vectors, int8_t *trits);
    // 4.2, 4.4, 4.5: out = (sat8((bias[lane] * 2^bias_shift + sum) >> shift) * multiplier[lane]) >> 7; a
    // panel of trits; sums within 20 bits (4.3).
    void (*linear)(const ternary_product *p, const ternary_scale *scale);
    // The same for a slice of the inputs after the other: sums of 16 for each row, in the backend's own form,
    // start from the biases at the first slice, grow by sum, and become outputs at the last one. At least
    // two slices; sums are aligned to 16 bytes. NULL with `tiles`.
    void (*slice)(const ternary_product *p, const ternary_scale *scale, int32_t *sums, bool first, bool last);
    // `linear` for patches in a picture, all regions of it, times a panel of 16 columns; NULL with `tiles`.
    // All buffers are aligned to 16 bytes.
    void (*regions)(const ternary_region *regions, size_t count, const int8_t *panel, int8_t *out,
                    const ternary_scale *scale);
    // 4.7: the sums of one row; a panel of trits.
    void (*sums)(const ternary_product *p, int32_t *sums);
    // 7.1: out = sat8(sum >> shift) for any x and depth <= TERNARY_MAX_HEAD_WIDTH. p->panel: one panel for
    // every 16 of `columns`, each padded to a multiple of 16 rows; p->lanes is ignored.
    void (*scores)(const ternary_product *p, size_t columns, int32_t shift);
    // 7.4, 7.5: out = (sat8(sum >> shift) * multiplier) >> 7, shift and multiplier from means[row]; x in
    // 0..127, at most TERNARY_MAX_WEIGHT_SUM a row.
    void (*values)(const ternary_product *p, const ternary_mean *means);
    // 7.2, 7.3: scores [rows, tokens] to weights, may be in place; rows of both are `stride` bytes apart;
    // sums: W of 7.4 for each row.
    void (*softmax)(const int8_t *scores, size_t rows, size_t tokens, size_t stride, const int8_t *table,
                    int8_t *weights, int32_t *sums);
    // The sum of x >= 0.
    int32_t (*total)(const int8_t *x, size_t count);
    // Whether all x >= 0.
    bool (*no_signs)(const int8_t *x, size_t count);
    // A panel for `scores`: panel[k][lane] = keys[lane][k] for k < depth, 0 for lane >= lanes; rows of keys
    // are `stride` bytes apart. A backend may order its panels' bytes otherwise.
    void (*transpose)(const int8_t *keys, size_t stride, size_t lanes, size_t depth, int8_t *panel);
    // A panel for `values`: panel[row][lane] = in[row][lane], 0 for lane >= lanes and for rows up to a
    // multiple of 16; rows of in are `stride` bytes apart.
    void (*gather)(const int8_t *in, size_t stride, size_t rows, size_t lanes, int8_t *panel);
    // 8.1
    void (*lookup)(const int8_t *x, size_t count, const int8_t *table, int8_t *out);
    // 5.1, 5.2
    void (*residual_start)(int16_t *residual, const int8_t *y, size_t count, int32_t shift);
    void (*residual_add)(int16_t *residual, const int8_t *y, size_t count, int32_t shift);
    // 6.1: sum of x; 6.2: V.
    int32_t (*sum)(const int16_t *x, size_t count);
    uint64_t (*squares)(const int16_t *x, size_t count, int32_t mean);
    void (*norm)(const ternary_norm *norm, const int16_t *x, int8_t *y);
    // Copies `rows` runs of `count` bytes, `stride` bytes apart, to contiguous memory.
    void (*copy)(int8_t *to, const int8_t *from, size_t count, size_t rows, size_t stride);
    // Writes `count` zeros.
    void (*clear)(int8_t *to, size_t count);
    // A hint that this memory is read soon. Returns false if hints for it are of no use.
    bool (*prefetch)(const void *data, size_t size);
};

extern const ternary_backend ternary_reference;
#ifdef TERNARY_PIE
extern const ternary_backend ternary_pie;
#endif
#ifdef TERNARY_NEON
extern const ternary_backend ternary_neon, ternary_neon_dot;
#endif
#ifdef TERNARY_WASM
extern const ternary_backend ternary_simd128;
#endif
#ifdef TERNARY_X86
extern const ternary_backend ternary_avx2, ternary_avx_vnni, ternary_avx512_vnni;
#endif

#endif
