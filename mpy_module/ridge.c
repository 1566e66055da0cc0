// SPDX-License-Identifier: MIT
// 12.5, 12.6: ridge regression in the dual, and the int8 head that it makes.
#include <string.h>

#include "checks.h"
#include "cholesky.h"
#include "learning.h"
#include "numbers.h"
#include "operations.h"

enum { INTERCEPT = 1 << 14, LEAST_RIDGE = 1 << 8, MOST_RIDGE = 1 << 17, MOST_ERROR = 1 << 23, ONE = 1 << 16 };

typedef struct {
    ternary_cholesky matrix;
    const int8_t *features;
    const uint8_t *labels;
    size_t width, classes;
    int32_t *ridge;    // [n], of each picture
    int32_t *inverse;  // [n], 1 / diagonal of the inverse, 20 fractional bits
    int32_t *solution; // [n]
    int32_t *own;      // [n], left-one-out score of the picture's class
    int32_t *sums;     // [width]
    uint64_t *errors;  // [classes], by the pictures' classes
    int32_t *counts;   // [classes]
} ridge_fit;

static uint64_t scratch_bytes(uint64_t pictures, uint64_t width, uint64_t classes) {
    uint64_t words = ternary_triangle((size_t)pictures) + 5 * pictures + width + classes;
    return TERNARY_SLACK + classes * sizeof(uint64_t) + words * sizeof(int32_t);
}

static void lay_out(ridge_fit *f, const ternary_arg *scratch) {
    size_t n = f->matrix.n;
    f->errors = ternary_aligned(scratch);
    f->counts = (int32_t *)(f->errors + f->classes);
    f->ridge = f->counts + f->classes;
    f->inverse = f->ridge + n;
    f->solution = f->inverse + n;
    f->own = f->solution + n;
    f->matrix.reciprocal = f->own + n;
    f->sums = f->matrix.reciprocal + n;
    f->matrix.factor = f->sums + f->width;
}

// Every class weighs the same, however many pictures it has.
static void factorize(ridge_fit *f, int32_t ridge) {
    int64_t n = (int64_t)f->matrix.n;
    for (size_t i = 0; i < f->matrix.n; i++) {
        int64_t scaled = (int64_t)ridge * (int64_t)f->classes * f->counts[f->labels[i]] / n;
        f->ridge[i] = scaled < LEAST_RIDGE ? LEAST_RIDGE : scaled > MOST_RIDGE ? MOST_RIDGE : (int32_t)scaled;
    }
    ternary_factorize(&f->matrix, INTERCEPT, f->ridge);
    for (size_t i = 0; i < f->matrix.n; i++) {
        int32_t diagonal = ternary_inverse_diagonal(&f->matrix, i, f->solution);
        f->inverse[i] = ternary_sat32((int64_t)((1ull << 40) / (uint64_t)diagonal));
    }
}

static void solve(const ridge_fit *f, size_t label) {
    for (size_t i = 0; i < f->matrix.n; i++) {
        f->solution[i] = f->labels[i] == label ? 1 << 23 : -(1 << 23);
    }
    ternary_forward(&f->matrix, f->solution, f->solution);
    ternary_backward(&f->matrix, f->solution);
}

// What picture i's score of a class lacks to its target if the picture is left out, 16 fractional bits.
static int32_t left_out_error(const ridge_fit *f, size_t i) {
    int64_t error = ((int64_t)f->solution[i] * f->inverse[i]) >> 28;
    return error < -MOST_ERROR ? -MOST_ERROR : error > MOST_ERROR ? MOST_ERROR : (int32_t)error;
}

// The mean squared error of pictures left out, summed over classes.
static uint64_t cross_validate(ridge_fit *f, int32_t ridge) {
    factorize(f, ridge);
    memset(f->errors, 0, f->classes * sizeof(uint64_t));
    for (size_t label = 0; label < f->classes; label++) {
        solve(f, label);
        for (size_t i = 0; i < f->matrix.n; i++) {
            int32_t error = ternary_shift_right(left_out_error(f, i), 8);
            f->errors[f->labels[i]] += (uint64_t)(error * error);
        }
    }
    uint64_t total = 0;
    for (size_t label = 0; label < f->classes; label++) {
        total += f->counts[label] ? f->errors[label] / (uint64_t)f->counts[label] : 0;
    }
    return total;
}

static int32_t largest_magnitude(const int32_t *x, size_t count) {
    int32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        largest = ternary_max(largest, x[i] < 0 ? -(x[i] + (x[i] == INT32_MIN)) : x[i]);
    }
    return largest;
}

// sums += p * x + q * y; with 1,024 factors below 2^14 sums stay below 2^31. Two at a time, as each sum is
// read and written.
static void add_multiples(int32_t *sums, const int8_t *x, int32_t p, const int8_t *y, int32_t q,
                          size_t count) {
    size_t k = 0;
    for (; k + 4 <= count; k += 4, sums += 4, x += 4, y += 4) {
        int32_t a = p * x[0] + q * y[0], b = p * x[1] + q * y[1];
        int32_t c = p * x[2] + q * y[2], d = p * x[3] + q * y[3];
        sums[0] += a;
        sums[1] += b;
        sums[2] += c;
        sums[3] += d;
    }
    for (; k < count; k++) {
        *sums++ += p * *x++ + q * *y++;
    }
}

static int32_t factor_of(int32_t solution, int32_t coarser) {
    return ternary_max(-16383, ternary_shift_right(solution, coarser));
}

// The weights of a class from the solution: the sum of features times solution as int8 times a multiplier.
static void make_head(const ridge_fit *f, int8_t *weights, int32_t *multiplier, int32_t *bias) {
    size_t n = f->matrix.n;
    int32_t coarser = ternary_max(0, ternary_bits((uint32_t)largest_magnitude(f->solution, n)) - 14);
    int64_t total = 0;
    memset(f->sums, 0, f->width * sizeof(int32_t));
    for (size_t i = 0; i < n; i += 2) {
        const int8_t *x = f->features + i * f->width;
        bool pair = i + 1 < n;
        int32_t p = factor_of(f->solution[i], coarser), q = pair ? factor_of(f->solution[i + 1], coarser) : 0;
        add_multiples(f->sums, x, p, pair ? x + f->width : x, q, f->width);
        total += (int64_t)f->solution[i] + (pair ? f->solution[i + 1] : 0);
    }
    *bias = ternary_sat32(total >> 8);
    int32_t largest = largest_magnitude(f->sums, f->width);
    int32_t shift = ternary_max(0, ternary_bits((uint32_t)largest) - 22);
    int32_t unit = ternary_max(1, largest >> shift);
    for (size_t k = 0; k < f->width; k++) {
        int32_t scaled = 254 * ternary_shift_right(f->sums[k], shift) + unit, divisor = 2 * unit;
        int32_t quotient = scaled / divisor;
        quotient -= scaled < quotient * divisor;
        weights[k] = (int8_t)ternary_max(-127, ternary_min(127, quotient));
    }
    *multiplier = ternary_sat32(((int64_t)largest << (coarser + 6)) / (127 * (int64_t)f->width));
}

// The head of every class, and by how much each picture's own class wins if the picture is left out.
static void finish(ridge_fit *f, int8_t *weights, int32_t *multiplier, int32_t *bias, int32_t *margins) {
    size_t n = f->matrix.n;
    for (size_t i = 0; i < n; i++) {
        margins[i] = -ONE; // the best score of another class, if there is one
    }
    for (size_t label = 0; label < f->classes; label++) {
        solve(f, label);
        for (size_t i = 0; i < n; i++) {
            int32_t score = (f->labels[i] == label ? ONE : -ONE) - left_out_error(f, i);
            if (f->labels[i] == label) {
                f->own[i] = score;
            } else {
                bool first = label == (f->labels[i] == 0);
                margins[i] = first ? score : ternary_max(margins[i], score);
            }
        }
        make_head(f, weights + label * f->width, multiplier + label, bias + label);
    }
    for (size_t i = 0; i < n; i++) {
        margins[i] = f->own[i] - margins[i]; // each at most 2^23 + 2^16
    }
}

static bool check_fit(const ternary_ridge_fit_arguments *a, ridge_fit *f, ternary_error *error) {
    size_t n;
    f->classes = a->multiplier.size / sizeof(int32_t);
    if (!ternary_is_pictures(&a->labels, 1, &n, error) || !ternary_size_multiple(&a->features, n, error)) {
        return false;
    }
    f->width = a->features.size / n;
    f->matrix.all = f->matrix.n = n;
    if (f->classes > TERNARY_MAX_CLASSES) {
        return ternary_size_is(&a->multiplier, TERNARY_MAX_CLASSES * sizeof(int32_t), error);
    }
    return ternary_is_width(&a->features, f->width, error) &&
           ternary_size_is(&a->gram, (uint64_t)ternary_triangle(n) * sizeof(int16_t), error) &&
           ternary_size_is(&a->weights, (uint64_t)f->classes * f->width, error) &&
           ternary_size_is(&a->bias, a->multiplier.size, error) &&
           ternary_size_is(&a->margins, (uint64_t)n * sizeof(int32_t), error) &&
           ternary_size_at_least(&a->scratch, scratch_bytes(n, f->width, f->classes), error) &&
           ternary_u8_in(&a->labels, 0, (int32_t)f->classes - 1, error) &&
           ternary_i32_in(&a->ridges, 1, TERNARY_MAX_RIDGE, error);
}

int32_t ternary_ridge_fit(const ternary_settings *settings, const ternary_arg *arguments,
                          ternary_error *error) {
    (void)settings;
    const ternary_ridge_fit_arguments *a = (const void *)arguments;
    ridge_fit f = {
        .matrix = {.gram = a->gram.data},
        .features = a->features.data,
        .labels = a->labels.data,
    };
    if (!check_fit(a, &f, error)) {
        return error->code;
    }
    lay_out(&f, &a->scratch);
    memset(f.counts, 0, f.classes * sizeof(int32_t));
    for (size_t i = 0; i < f.matrix.n; i++) {
        f.counts[f.labels[i]]++;
    }
    const int32_t *ridges = a->ridges.data;
    size_t candidates = a->ridges.size / sizeof(int32_t), best = 0;
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; candidates > 1 && i < candidates; i++) {
        uint64_t total = cross_validate(&f, ridges[i]);
        if (total < least) {
            least = total;
            best = i;
        }
    }
    if (best + 1 < candidates || candidates == 1) {
        factorize(&f, ridges[best]);
    }
    finish(&f, a->weights.data, a->multiplier.data, a->bias.data, a->margins.data);
    return (int32_t)best;
}

int32_t ternary_ridge_scratch(const ternary_settings *settings, const ternary_arg *arguments,
                              ternary_error *error) {
    (void)settings;
    const ternary_ridge_scratch_arguments *a = (const void *)arguments;
    if (!ternary_value_in(&a->pictures, 1, TERNARY_MAX_PICTURES, error) ||
        !ternary_value_in(&a->width, 1, TERNARY_MAX_FEATURES, error) ||
        !ternary_value_in(&a->classes, 1, TERNARY_MAX_CLASSES, error)) {
        return error->code;
    }
    return (int32_t)scratch_bytes((uint64_t)a->pictures.value, (uint64_t)a->width.value,
                                  (uint64_t)a->classes.value);
}

int32_t ternary_ridge_scores(const ternary_settings *settings, const ternary_arg *arguments,
                             ternary_error *error) {
    (void)settings;
    const ternary_ridge_scores_arguments *a = (const void *)arguments;
    size_t width = a->x.size, classes = a->multiplier.size / sizeof(int32_t);
    if (!ternary_is_width(&a->x, width, error) ||
        !ternary_size_is(&a->weights, (uint64_t)classes * width, error) ||
        !ternary_size_is(&a->bias, a->multiplier.size, error) ||
        !ternary_size_is(&a->out, a->multiplier.size, error) ||
        !ternary_i32_in(&a->multiplier, 0, INT32_MAX, error)) {
        return error->code;
    }
    const int8_t *weights = a->weights.data;
    const int32_t *multiplier = a->multiplier.data, *bias = a->bias.data;
    int32_t *out = a->out.data;
    for (size_t label = 0; label < classes; label++) {
        int64_t sum = ternary_dot(a->x.data, weights + label * width, width);
        out[label] = ternary_sat32(((sum * multiplier[label]) >> 24) + bias[label]);
    }
    return 0;
}
