// SPDX-License-Identifier: MIT
// Of ESP-IDF's header of this name: what it brings.

#include "sdkconfig.h"
#include "soc/soc_caps.h"
