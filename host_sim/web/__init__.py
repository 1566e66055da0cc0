# SPDX-License-Identifier: MIT
"""The browser as a board: MicroPython and the ternary module as WebAssembly, the page around them, and its server."""
