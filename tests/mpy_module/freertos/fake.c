// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "freertos/FreeRTOS.h"
#include "freertos/idf_additions.h"
#include "freertos/semphr.h"
#include "freertos/task.h"

static __thread StaticTask_t *current;
static __thread StaticTask_t caller; // for threads that are not tasks

// Arguments of the last created task.
struct {
    char name[16];
    uint32_t stack_bytes, priority;
    int32_t core;
} fake_created;

static void counter_init(fake_counter *counter) {
    pthread_mutex_init(&counter->lock, NULL);
    pthread_cond_init(&counter->changed, NULL);
    counter->count = 0;
}

// Adds 1, up to `most`.
static BaseType_t counter_add(fake_counter *counter, uint32_t most) {
    pthread_mutex_lock(&counter->lock);
    BaseType_t added = counter->count < most ? pdTRUE : pdFALSE;
    counter->count += (uint32_t)added;
    pthread_cond_signal(&counter->changed);
    pthread_mutex_unlock(&counter->lock);
    return added;
}

static struct timespec after(TickType_t milliseconds) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    time.tv_sec += (time_t)(milliseconds / 1000);
    time.tv_nsec += (long)(milliseconds % 1000) * 1000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000;
    }
    return time;
}

// Waits up to `ticks` for a count above 0; returns it and sets it to 0.
static uint32_t counter_take(fake_counter *counter, TickType_t ticks) {
    struct timespec end = after(ticks == portMAX_DELAY ? 0 : ticks);
    int timed_out = ticks == 0;
    pthread_mutex_lock(&counter->lock);
    while (counter->count == 0 && !timed_out) {
        if (ticks == portMAX_DELAY) {
            pthread_cond_wait(&counter->changed, &counter->lock);
        } else {
            timed_out = pthread_cond_timedwait(&counter->changed, &counter->lock, &end) == ETIMEDOUT;
        }
    }
    uint32_t count = counter->count;
    counter->count = 0;
    pthread_mutex_unlock(&counter->lock);
    return count;
}

static StaticTask_t *self(void) {
    if (current == NULL) {
        counter_init(&caller.notified);
        caller.core = 1;
        current = &caller;
    }
    return current;
}

void fake_move_to_core(int32_t core) {
    self()->core = core;
}

BaseType_t xPortGetCoreID(void) {
    return self()->core;
}

static void *run_task(void *memory) {
    current = memory;
    current->code(current->parameters);
    return NULL;
}

TaskHandle_t xTaskCreateStaticPinnedToCore(TaskFunction_t code, const char *name, uint32_t stack_bytes,
                                           void *parameters, UBaseType_t priority, StackType_t *stack,
                                           StaticTask_t *memory, BaseType_t core) {
    memset(stack, 0xa5, stack_bytes); // as FreeRTOS does; the POSIX thread has its own stack
    strncpy(fake_created.name, name, sizeof(fake_created.name) - 1);
    fake_created.stack_bytes = stack_bytes;
    fake_created.priority = priority;
    fake_created.core = core;
    counter_init(&memory->notified);
    memory->core = core;
    memory->code = code;
    memory->parameters = parameters;
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_task, memory) != 0) {
        return NULL;
    }
    pthread_detach(thread);
    return (TaskHandle_t)memory;
}

TaskHandle_t xTaskGetCurrentTaskHandle(void) {
    return (TaskHandle_t)self();
}

BaseType_t xTaskNotifyGive(TaskHandle_t task) {
    return counter_add(&((StaticTask_t *)task)->notified, UINT32_MAX);
}

// Only for clear == pdTRUE.
uint32_t ulTaskNotifyTake(BaseType_t clear, TickType_t ticks) {
    return clear == pdTRUE ? counter_take(&self()->notified, ticks) : 0;
}

SemaphoreHandle_t xSemaphoreCreateBinaryStatic(StaticSemaphore_t *memory) {
    counter_init(&memory->count);
    return (SemaphoreHandle_t)memory;
}

BaseType_t xSemaphoreGive(SemaphoreHandle_t semaphore) {
    return counter_add(&((StaticSemaphore_t *)semaphore)->count, 1);
}

BaseType_t xSemaphoreTake(SemaphoreHandle_t semaphore, TickType_t ticks) {
    return counter_take(&((StaticSemaphore_t *)semaphore)->count, ticks) > 0 ? pdTRUE : pdFALSE;
}
