# SPDX-License-Identifier: MIT
"""Training: the loop, its phases, distillation, and the pipeline from a configuration to a model file."""
