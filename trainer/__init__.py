# SPDX-License-Identifier: MIT
"""Distils timm vision transformers into fully ternary W2A8 models (see SPEC.md)."""
