// SPDX-License-Identifier: MIT
// What parts of an operation prefetch for their next items: tiles, rows.

#ifndef TERNARY_AHEAD_H
#define TERNARY_AHEAD_H

#include <stdbool.h>
#include <stddef.h>

// Whether this build runs parts at the same time (true) or one after another.
static inline bool ternary_parts_meet(void) {
#if defined(TERNARY_PARALLEL_FREERTOS) || defined(TERNARY_PARALLEL_PTHREAD)
    return true;
#else
    return false;
#endif
}

typedef struct {
    size_t first, count; // count: 0 for none
} ternary_items;

// The chip has one preload for both cores: if parts run at the same time, part 0 prefetches for all.

// Whether this part prefetches what each part needs first.
static inline bool ternary_prefetches(size_t part) {
    return part == 0 || !ternary_parts_meet();
}

// What to prefetch at `item`, for parts that take every parts-th of `items`: the items that come next.
static inline ternary_items ternary_next_items(size_t item, size_t part, size_t parts, size_t items) {
    const size_t next = item + parts, left = next < items ? items - next : 0;
    const size_t count = ternary_parts_meet() ? (part == 0 ? parts : 0) : 1;
    return (ternary_items){.first = next, .count = left < count ? left : count};
}

// Whether this part prefetches, with its last item, what all parts need afterwards.
static inline bool ternary_prefetches_last(size_t part, size_t parts) {
    return part == (ternary_parts_meet() ? 0 : parts - 1);
}

#endif
