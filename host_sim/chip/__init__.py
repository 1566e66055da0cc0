# SPDX-License-Identifier: MIT
"""The kernels of mpy_module/ on the simulated ESP32-S3: the commands of `just lx7`, and the benchmark."""
