// SPDX-License-Identifier: MIT
// Word-sized variables that threads read and write without a lock. Writes before a TERNARY_STORE are visible
// after a TERNARY_LOAD of the stored value.

#ifndef TERNARY_ATOMIC_H
#define TERNARY_ATOMIC_H

#ifdef __GNUC__
#define TERNARY_LOAD(pointer) __atomic_load_n(pointer, __ATOMIC_ACQUIRE)
#define TERNARY_STORE(pointer, value) __atomic_store_n(pointer, value, __ATOMIC_RELEASE)
#else // one core: aligned words are read and written whole
#define TERNARY_LOAD(pointer) (*(pointer))
#define TERNARY_STORE(pointer, value) (*(pointer) = (value))
#endif

#endif
