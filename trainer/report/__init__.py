# SPDX-License-Identifier: MIT
"""A run as one HTML page, and the documents' tables of measured numbers."""
