# SPDX-License-Identifier: MIT
"""What stands in for the board on a PC: environment, MicroPython's unix port, virtual board, host build."""
