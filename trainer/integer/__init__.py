# SPDX-License-Identifier: MIT
"""SPEC's integer arithmetic in torch, a file for each of its sections."""
