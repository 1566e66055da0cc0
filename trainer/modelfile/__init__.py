# SPDX-License-Identifier: MIT
"""The model file (SPEC 10): written, inspected, evaluated."""
