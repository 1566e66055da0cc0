# SPDX-License-Identifier: MIT
"""What choices of the method are worth and cost: each writes JSON that the tables of docs/numbers.md are made from."""
