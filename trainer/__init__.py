# SPDX-License-Identifier: MIT
"""Distils timm vision transformers into fully ternary W2A8 models (see SPEC.md)."""

import warnings

# timm imports torchvision, and the one that imports beside a CPU-only torch without its partner (host_sim/setup) misses
# an image extension, which nothing here uses.
warnings.filterwarnings("ignore", message="Failed to load image Python extension")
