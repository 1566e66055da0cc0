// SPDX-License-Identifier: MIT
// For tests/mpy_module/freertos, whose types POSIX threads are part of.

#ifndef FAKE_PTHREAD_H
#define FAKE_PTHREAD_H

typedef int pthread_mutex_t, pthread_cond_t;

#endif
