# SPDX-License-Identifier: MIT
# Frozen into the ESP32-S3 boards' firmware: what the port freezes, and the package `ftervit`.
include("$(PORT_DIR)/boards/manifest.py")
package("ftervit", base_path="..")
