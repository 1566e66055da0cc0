// SPDX-License-Identifier: MIT
// The part of ESP-IDF's esp_task.h that mpy_module/parallel_freertos.c uses.

#ifndef FAKE_ESP_TASK_H
#define FAKE_ESP_TASK_H

#include "sdkconfig.h"

#define ESP_TASK_PRIO_MIN (0)

#endif
