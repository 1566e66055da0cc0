# SPDX-License-Identifier: MIT
"""Firmware of the ESP32-S3 boards: built with the user's ESP-IDF, checked, and written to a board."""
