// SPDX-License-Identifier: MIT
// Of ESP-IDF's header of this name: what mpy_module/parallel_freertos.c uses.

#ifndef FAKE_ESP_TASK_H
#define FAKE_ESP_TASK_H

#include "sdkconfig.h"

#define ESP_TASK_PRIO_MIN (0)

#endif
