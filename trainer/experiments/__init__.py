# SPDX-License-Identifier: MIT
"""What choices of the method are worth and cost: each writes JSON that README's tables are made from."""
