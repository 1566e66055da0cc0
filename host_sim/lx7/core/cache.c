// SPDX-License-Identifier: MIT
#include <stdlib.h>

#include "cache.h"

bool lx7_cache_make(lx7_cache *cache, lx7_cache_shape shape) {
    uint32_t line_bits = 0;
    while (line_bits < 31 && 1u << line_bits < shape.line) {
        line_bits++;
    }
    if (shape.line < 4 || 1u << line_bits != shape.line || shape.ways == 0 || shape.ways > 64 ||
        shape.size > 1u << 24 || shape.size < shape.line || shape.size % (shape.ways * shape.line)) {
        return false;
    }
    uint32_t sets = shape.size / (shape.ways * shape.line);
    if (sets & (sets - 1)) {
        return false;
    }
    lx7_line *lines = calloc((size_t)sets * shape.ways, sizeof(*lines));
    *cache = (lx7_cache){.ways = shape.ways, .sets = sets, .line_bits = line_bits, .lines = lines};
    return lines != NULL;
}

void lx7_cache_clear(lx7_cache *cache) {
    memset(cache->lines, 0, (size_t)cache->sets * cache->ways * sizeof(*cache->lines));
}
