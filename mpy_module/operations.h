// SPDX-License-Identifier: MIT
// The list of operations: name, whether it returns a number, help, parameters (name, type, use). Argument
// structs, the table in operations.c and the functions in modternary.c are made from it.

#ifndef TERNARY_OPERATIONS_H
#define TERNARY_OPERATIONS_H

#include "ternary.h"

// clang-format off
#define TERNARY_OPERATIONS(OPERATION, P) \
    OPERATION(decode, 0, "Unpack trits to int8 [rows, 16] (SPEC 2.2-2.5).", \
        P(packed, U8, IN) P(out, I8, OUT)) \
    OPERATION(linear, 0, "TernaryBitLinear: x [rows, K] to out [rows, N] (SPEC 4.1-4.5).", \
        P(x, I8, IN) P(weight, U8, IN) P(bias, I16, IN) P(multiplier, I8, IN) P(shift, U8, IN) \
        P(out, I8, OUT) P(scratch, I8, SCRATCH)) \
    OPERATION(linear_columns, 0, "linear, to columns column..column + N - 1 of out [rows, any width].", \
        P(x, I8, IN) P(rows, INT, IN) P(weight, U8, IN) P(bias, I16, IN) P(multiplier, I8, IN) \
        P(shift, U8, IN) P(out, I8, INOUT) P(column, INT, IN) P(scratch, I8, SCRATCH)) \
    OPERATION(linear_add, 0, "linear to out, then residual += out * 2^residual_shift, saturating (SPEC 4, 5.1).", \
        P(x, I8, IN) P(weight, U8, IN) P(bias, I16, IN) P(multiplier, I8, IN) P(shift, U8, IN) \
        P(out, I8, OUT) P(residual, I16, INOUT) P(residual_shift, INT, IN) P(scratch, I8, SCRATCH)) \
    OPERATION(linear_logits, 0, "The head: x [rows, K] to logits [rows, N] (SPEC 4.7).", \
        P(x, I8, IN) P(weight, U8, IN) P(bias, I32, IN) P(multiplier, I16, IN) \
        P(out, I32, OUT) P(scratch, I8, SCRATCH)) \
    OPERATION(linear_scratch, 1, "Bytes of scratch for the linear operations.", \
        P(in_features, INT, IN)) \
    OPERATION(linear_scratch_least, 1, "With fewer bytes, linear and linear_columns use fewer cores or refuse.", \
        P(in_features, INT, IN)) \
    OPERATION(prefetch, 0, "A hint that this buffer is read soon: the chip loads it into its cache.", \
        P(data, U8, IN)) \
    OPERATION(patches, 0, "Cut an int8 picture into patches: those of rows `row` and up, as many rows as out holds (SPEC 4.6).", \
        P(picture, I8, IN) P(width, INT, IN) P(channels, INT, IN) P(kernel, INT, IN) P(stride, INT, IN) \
        P(padding, INT, IN) P(row, INT, IN) P(out, I8, OUT)) \
    OPERATION(convolution, 0, "TernaryBitConv2d: picture to out [rows, columns, N]; patches: scratch for a row of them or more (SPEC 4.6).", \
        P(picture, I8, IN) P(width, INT, IN) P(channels, INT, IN) P(kernel, INT, IN) P(stride, INT, IN) \
        P(padding, INT, IN) P(weight, U8, IN) P(bias, I16, IN) P(multiplier, I8, IN) P(shift, U8, IN) \
        P(out, I8, OUT) P(patches, I8, SCRATCH) P(scratch, I8, SCRATCH)) \
    OPERATION(layernorm, 0, "TernaryLayerNorm: x [rows, width] to out [rows, width] (SPEC 6).", \
        P(x, I16, IN) P(weight, U8, IN) P(bias, U8, IN) P(gain, INT, IN) P(gain_shift, INT, IN) \
        P(beta, INT, IN) P(width, INT, IN) P(out, I8, OUT) P(scratch, I8, SCRATCH)) \
    OPERATION(layernorm_scratch, 1, "Bytes of scratch for layernorm.", \
        P(width, INT, IN)) \
    OPERATION(attention, 0, "All heads: qkv [T, 3 D] to columns column..column + D - 1 of out [T, D or more] (SPEC 7).", \
        P(qkv, I8, IN) P(tokens, INT, IN) P(heads, INT, IN) P(score_shift, INT, IN) P(table, I8, IN) \
        P(value_gain, INT, IN) P(out, I8, INOUT) P(column, INT, IN) P(scratch, I8, SCRATCH)) \
    OPERATION(attention_columns, 0, "The same for q in these columns of out, which its heads replace, and kv [T, 2 D].", \
        P(kv, I8, IN) P(tokens, INT, IN) P(heads, INT, IN) P(score_shift, INT, IN) P(table, I8, IN) \
        P(value_gain, INT, IN) P(out, I8, INOUT) P(column, INT, IN) P(scratch, I8, SCRATCH)) \
    OPERATION(attention_scratch, 1, "Bytes of scratch for attention and its parts.", \
        P(tokens, INT, IN) P(head_width, INT, IN)) \
    OPERATION(attention_scratch_least, 1, "With fewer bytes, attention uses fewer cores or refuses.", \
        P(tokens, INT, IN) P(head_width, INT, IN)) \
    OPERATION(attention_scores, 0, "Scores of one head: qkv [T, 3 D] to out [T, T or more] (SPEC 7.1).", \
        P(qkv, I8, IN) P(tokens, INT, IN) P(heads, INT, IN) P(head, INT, IN) P(score_shift, INT, IN) \
        P(out, I8, OUT) P(scratch, I8, SCRATCH)) \
    OPERATION(softmax, 0, "Scores [rows, tokens] to weights [rows, tokens], may be in place (SPEC 7.2, 7.3).", \
        P(scores, I8, IN) P(tokens, INT, IN) P(table, I8, IN) P(out, I8, IN_PLACE)) \
    OPERATION(attention_values, 0, "Mean of one head's v under weights [T, T or more], to its columns of out [T, D] (SPEC 7.4-7.6).", \
        P(weights, I8, IN) P(qkv, I8, IN) P(tokens, INT, IN) P(heads, INT, IN) P(head, INT, IN) \
        P(value_gain, INT, IN) P(out, I8, INOUT) P(scratch, I8, SCRATCH)) \
    OPERATION(lookup, 0, "out = table[x + 128], may be in place (SPEC 8.1).", \
        P(x, I8, IN) P(table, I8, IN) P(out, I8, IN_PLACE)) \
    OPERATION(residual_start, 0, "residual = y * 2^shift (SPEC 5.2).", \
        P(residual, I16, OUT) P(y, I8, IN) P(shift, INT, IN)) \
    OPERATION(residual_add, 0, "residual += y * 2^shift, saturating (SPEC 5.1).", \
        P(residual, I16, INOUT) P(y, I8, IN) P(shift, INT, IN)) \
    OPERATION(convert, 0, "Grey to colour or colour to grey (SPEC 3.2).", \
        P(pixels, U8, IN) P(channels, INT, IN) P(out, U8, OUT) P(out_channels, INT, IN)) \
    OPERATION(rgb565, 0, "A camera's RGB565 to colour; order: 1 low byte first, 2 red and blue exchanged (SPEC 3.2).", \
        P(pixels, U8, IN) P(order, INT, IN) P(out, U8, OUT)) \
    OPERATION(yuv422, 0, "A camera's YUV422 to colour; order: 1 luma last, 2 U and V exchanged (SPEC 3.2).", \
        P(pixels, U8, IN) P(order, INT, IN) P(out, U8, OUT)) \
    OPERATION(bgr888, 0, "Red and blue exchanged, may be in place (SPEC 3.2).", \
        P(pixels, U8, IN) P(out, U8, IN_PLACE)) \
    OPERATION(resize, 0, "Resize the square (left, top, side) to out [size, size] (SPEC 3.4).", \
        P(pixels, U8, IN) P(width, INT, IN) P(channels, INT, IN) P(left, INT, IN) P(top, INT, IN) \
        P(side, INT, IN) P(out, U8, OUT) P(size, INT, IN) P(scratch, I32, SCRATCH)) \
    OPERATION(resize_scratch, 1, "Bytes of scratch for resize.", \
        P(side, INT, IN) P(channels, INT, IN)) \
    OPERATION(normalize, 0, "Pixels to int8, may be in place (SPEC 3.5).", \
        P(pixels, U8, IN) P(multiplier, I32, IN) P(offset, I32, IN) P(out, I8, IN_PLACE)) \
    OPERATION(mean_rows, 0, "Mean of the rows: x [rows, width] to out [width] (SPEC 9.6).", \
        P(x, I8, IN) P(out, I8, OUT)) \
    OPERATION(topk, 0, "Indices of the largest logits, best first (SPEC 9.4).", \
        P(logits, I32, IN) P(out, I32, OUT)) \
    OPERATION(rms_norm, 0, "Features [F] scaled to a root mean square of 32, to out [F] (SPEC 12.1).", \
        P(x, I8, IN) P(out, I8, OUT)) \
    OPERATION(gram, 0, "Products of the last `count` of features [n, width] with all up to their own, packed (SPEC 12.2).", \
        P(features, I8, IN) P(width, INT, IN) P(count, INT, IN) P(out, I16, OUT)) \
    OPERATION(drop_class, 1, "Remove a class's pictures from features [n, F] and labels [n]; returns how many stay (SPEC 12.3).", \
        P(features, I8, INOUT) P(labels, U8, INOUT) P(label, INT, IN)) \
    OPERATION(ridge_fit, 1, "Fit a head of int8 [classes, F] to features [n, F]; returns which ridge was best (SPEC 12.5).", \
        P(features, I8, IN) P(labels, U8, IN) P(gram, I16, IN) P(ridges, I32, IN) P(weights, I8, OUT) \
        P(multiplier, I32, OUT) P(bias, I32, OUT) P(margins, I32, OUT) P(scratch, I8, SCRATCH)) \
    OPERATION(ridge_scratch, 1, "Bytes of scratch for ridge_fit.", \
        P(pictures, INT, IN) P(width, INT, IN) P(classes, INT, IN)) \
    OPERATION(ridge_scores, 0, "Scores of the classes for features [F] (SPEC 12.6).", \
        P(x, I8, IN) P(weights, I8, IN) P(multiplier, I32, IN) P(bias, I32, IN) P(out, I32, OUT)) \
    OPERATION(span_fit, 0, "Directions, each (F + 1) // 2 bytes, of features [n, F], and how far each is from the others (SPEC 12.7).", \
        P(features, I8, IN) P(gram, I16, IN) P(ridge, INT, IN) P(directions, U8, OUT) P(distances, I32, OUT) \
        P(scratch, I8, SCRATCH)) \
    OPERATION(span_scratch, 1, "Bytes of scratch for span_fit.", \
        P(directions, INT, IN)) \
    OPERATION(span_distance, 1, "Distance of features [F] from the directions of span_fit (SPEC 12.8).", \
        P(x, I8, IN) P(directions, U8, IN)) \
    OPERATION(moments, 0, "Mean and standard deviation of numbers (SPEC 12.9).", \
        P(x, I32, IN) P(out, I32, OUT))
// clang-format on

#define TERNARY_FIELD(name, type, use) ternary_arg name;
#define TERNARY_DECLARE(name, has_result, doc, parameters)                                                   \
    typedef struct {                                                                                         \
        parameters                                                                                           \
    } ternary_##name##_arguments;                                                                            \
    int32_t ternary_##name(const ternary_settings *settings, const ternary_arg *arguments,                   \
                           ternary_error *error);

TERNARY_OPERATIONS(TERNARY_DECLARE, TERNARY_FIELD)

#undef TERNARY_FIELD
#undef TERNARY_DECLARE

#endif
