# SPDX-License-Identifier: MIT
"""What the recipes need on this machine: Python packages, system packages, MicroPython's source."""
