# SPDX-License-Identifier: MIT
# Modules frozen into the ESP32-S3 boards' firmware: the port's, and the package `ftervit`.
include("$(PORT_DIR)/boards/manifest.py")
package("ftervit", base_path="..")
