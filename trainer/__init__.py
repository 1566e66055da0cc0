# SPDX-License-Identifier: MIT
"""Distils timm vision transformers into fully ternary W2A8 models (see SPEC.md)."""

import warnings

# timm imports torchvision. Next to a CPU-only torch it may lack its image extension, which nothing here uses
# (host_sim/setup/environment.py).
warnings.filterwarnings("ignore", message="Failed to load image Python extension")
