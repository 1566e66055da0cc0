# SPDX-License-Identifier: MIT
"""A simulated ESP32-S3: Xtensa LX7 with PIE, running machine code and modelling its cycles."""
