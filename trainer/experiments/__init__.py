# SPDX-License-Identifier: MIT
"""Benefit and cost of the method's choices: each experiment writes JSON for the tables of docs/numbers.md."""
