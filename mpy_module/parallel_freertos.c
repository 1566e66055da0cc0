// SPDX-License-Identifier: MIT
// The worker as a FreeRTOS task of ESP-IDF, pinned to the core that the starting task is not on: core 0, as
// MicroPython runs on core 1 (MP_TASK_COREID). It is static and never deleted, so it survives MicroPython's
// soft reset.
//
// Watchdog: the worker has the priority of MicroPython's task, above the idle task, so core 0's idle task
// does not run during a part. A part's time is bounded only by the size of the call. The esp32 port's
// sdkconfig.base does not watch idle tasks; a board that watches core 0's must call operations on few enough
// rows to stay below CONFIG_ESP_TASK_WDT_TIMEOUT_S. Wi-Fi, Bluetooth, timers and lwIP have higher priorities
// and preempt the worker.

#ifdef TERNARY_PARALLEL_FREERTOS

#include "esp_task.h"
#include "freertos/FreeRTOS.h"
#include "freertos/idf_additions.h" // or task.h, by version: xTaskCreateStaticPinnedToCore
#include "freertos/semphr.h"
#include "freertos/task.h"

#include "parallel.h"

#ifdef CONFIG_FREERTOS_UNICORE
#error "CONFIG_FREERTOS_UNICORE has no second core: build without TERNARY_PARALLEL_FREERTOS"
#endif

// Stack size in bytes, as in ESP-IDF. FPU and PIE registers (about 300 bytes) and interrupt frames are saved
// here, too; a part may use half of it.
enum { STACK_SIZE = 6144, PRIORITY = ESP_TASK_PRIO_MIN + 1 };

// Longer than any part takes.
enum { LONGEST_PART_MS = 10000 };

static StackType_t stack[STACK_SIZE / sizeof(StackType_t)];
static StaticTask_t task_memory;
static StaticSemaphore_t turn_memory, ended_memory;

static TaskHandle_t task;
static BaseType_t core;         // the worker's
static SemaphoreHandle_t turn;  // taken from ternary_worker_give to ternary_worker_wait
static SemaphoreHandle_t ended; // not a notification: MicroPython uses those to wake its task
static ternary_work given_work;
static void *given_context;

// FreeRTOS's critical sections order memory between cores: writes before a notification or semaphore is given
// are visible after it is taken.
static void run_worker(void *unused) {
    (void)unused;
    for (;;) {
        while (ulTaskNotifyTake(pdTRUE, portMAX_DELAY) == 0) {
        }
        given_work(given_context, 1);
        xSemaphoreGive(ended);
    }
}

int32_t ternary_worker_start(int32_t count) {
    (void)count; // there is one other core
    if (task == NULL) {
        turn = xSemaphoreCreateBinaryStatic(&turn_memory);
        ended = xSemaphoreCreateBinaryStatic(&ended_memory);
        xSemaphoreGive(turn);
        core = xPortGetCoreID() == 0 ? 1 : 0;
        task = xTaskCreateStaticPinnedToCore(run_worker, "ternary", STACK_SIZE, NULL, PRIORITY, stack,
                                             &task_memory, core);
    }
    return task != NULL ? 1 : 0;
}

size_t ternary_worker_give(ternary_work work, void *context, size_t parts) {
    (void)parts;
    if (task == NULL || xPortGetCoreID() == core || xSemaphoreTake(turn, 0) != pdTRUE) {
        return 0;
    }
    given_work = work;
    given_context = context;
    xTaskNotifyGive(task);
    return 1;
}

void ternary_worker_wait(void) {
    xSemaphoreTake(ended, portMAX_DELAY);
    xSemaphoreGive(turn);
}

void ternary_worker_settle(void) {
    if (task == NULL) {
        return;
    }
    if (xSemaphoreTake(turn, 0) != pdTRUE) {
        // `ended` is not given if the caller was deleted before it woke the worker, or after it had waited.
        xSemaphoreTake(ended, pdMS_TO_TICKS(LONGEST_PART_MS));
    }
    xSemaphoreGive(turn);
}

#endif
