# SPDX-License-Identifier: MIT
"""Sizes as partition tables and command lines write them."""

import re

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}


def parse_size(text: str) -> int | None:
    """A size in bytes: 65536, 0x10000, 64K or 2M, of at most 16 digits; None for anything else."""
    match = re.fullmatch(r"(0x[0-9a-f]{1,16}|[0-9]{1,16})([km]?)", text.strip().lower())
    if not match:
        return None
    digits, unit = match.groups()
    return int(digits, 16 if digits.startswith("0x") else 10) * UNITS[unit]
