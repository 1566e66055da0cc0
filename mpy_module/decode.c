// SPDX-License-Identifier: MIT
#include <string.h>

#include "backends.h"
#include "checks.h"
#include "numbers.h"
#include "operations.h"

int32_t ternary_prefetch(const ternary_settings *settings, const ternary_arg *arguments,
                         ternary_error *error) {
    const ternary_prefetch_arguments *a = (const void *)arguments;
    (void)error;
    settings->backend->prefetch(a->data.data, ternary_smaller(a->data.size, TERNARY_MAX_PREFETCH));
    return 0;
}

int32_t ternary_decode(const ternary_settings *settings, const ternary_arg *arguments, ternary_error *error) {
    const ternary_decode_arguments *a = (const void *)arguments;
    uint64_t needed = ternary_ceil_div(a->out.size, TERNARY_VECTOR_TRITS) * TERNARY_LANES;
    if (!ternary_size_multiple(&a->out, TERNARY_LANES, error) ||
        !ternary_size_is(&a->packed, needed, error)) {
        return error->code;
    }
    const uint8_t *packed = a->packed.data;
    int8_t *out = a->out.data;
    size_t whole = a->out.size / TERNARY_VECTOR_TRITS, rest = a->out.size % TERNARY_VECTOR_TRITS;
    settings->backend->decode(packed, whole, out);
    if (rest) {
        int8_t last[TERNARY_VECTOR_TRITS];
        settings->backend->decode(packed + whole * TERNARY_LANES, 1, last);
        memcpy(out + whole * TERNARY_VECTOR_TRITS, last, rest);
    }
    return 0;
}
