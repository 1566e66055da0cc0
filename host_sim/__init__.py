# SPDX-License-Identifier: MIT
"""Host side: set-up, the kernels under CPython, virtual boards, and the simulated ESP32-S3."""
