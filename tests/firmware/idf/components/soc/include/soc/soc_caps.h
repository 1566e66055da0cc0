// SPDX-License-Identifier: MIT
// Of ESP-IDF's header for the ESP32-S3: what MicroPython's mpconfigport.h asks.

#define SOC_I2S_SUPPORTED 1
#define SOC_USB_OTG_SUPPORTED 1
#define SOC_USB_SERIAL_JTAG_SUPPORTED 1
