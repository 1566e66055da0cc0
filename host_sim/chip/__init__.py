# SPDX-License-Identifier: MIT
"""The kernels of mpy_module/ on the simulated ESP32-S3 (host_sim/lx7): a runner for `ternary`, and the benchmark."""
