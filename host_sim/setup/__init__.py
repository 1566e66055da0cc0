# SPDX-License-Identifier: MIT
"""Set-up for the recipes: Python packages, system packages, MicroPython's source and ROMFS images."""
