// SPDX-License-Identifier: MIT
#ifndef FAKE_IDF_ADDITIONS_H
#define FAKE_IDF_ADDITIONS_H

#include "freertos/task.h"

TaskHandle_t xTaskCreateStaticPinnedToCore(TaskFunction_t code, const char *name, uint32_t stack_bytes,
                                           void *parameters, UBaseType_t priority, StackType_t *stack,
                                           StaticTask_t *memory, BaseType_t core);

#endif
