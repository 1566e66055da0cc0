# SPDX-License-Identifier: MIT
"""A run as one HTML page, and README's tables of measured numbers."""
