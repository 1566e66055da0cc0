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

// What to prefetch at `item`, for parts that take every parts-th of `items`: the items that come next. The
// chip has one preload for both cores: if parts run at the same time, part 0 prefetches for all.
static inline ternary_items ternary_next_items(size_t item, size_t part, size_t parts, size_t items) {
    const bool meet = parts > 1 && ternary_parts_meet();
    const size_t next = item + parts, left = next < items ? items - next : 0;
    const size_t count = meet ? (part == 0 ? parts : 0) : 1;
    return (ternary_items){.first = next, .count = left < count ? left : count};
}

// Whether this part is the one that prefetches what all parts need after their last items.
static inline bool ternary_prefetches_for_all(size_t part, size_t parts) {
    return part == (ternary_parts_meet() ? 0 : parts - 1);
}

#endif
