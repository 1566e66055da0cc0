// SPDX-License-Identifier: MIT
// The part of ESP-IDF 5's FreeRTOS that mpy_module/parallel_freertos.c uses, over POSIX threads.

#ifndef FAKE_FREERTOS_H
#define FAKE_FREERTOS_H

#include <pthread.h>
#include <stdint.h>

#include "sdkconfig.h"

typedef int BaseType_t;
typedef unsigned int UBaseType_t;
typedef uint32_t TickType_t;
typedef uint8_t StackType_t;

#define pdFALSE ((BaseType_t)0)
#define pdTRUE ((BaseType_t)1)
#define portMAX_DELAY ((TickType_t)0xffffffffUL)
#define pdMS_TO_TICKS(milliseconds) ((TickType_t)(milliseconds))

// A counter on which threads can wait.
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t count;
} fake_counter;

typedef struct {
    fake_counter count;
} StaticSemaphore_t;

typedef struct {
    fake_counter notified;
    BaseType_t core;
    void (*code)(void *);
    void *parameters;
} StaticTask_t;

// The core of the calling thread: a task's core, or 1 for other threads, which represent MicroPython's task.
BaseType_t xPortGetCoreID(void);

#endif
