// SPDX-License-Identifier: MIT
// For tests/mpy_module/freertos, whose types contain POSIX types.

#ifndef FAKE_PTHREAD_H
#define FAKE_PTHREAD_H

typedef int pthread_mutex_t, pthread_cond_t;

#endif
