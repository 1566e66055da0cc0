# SPDX-License-Identifier: MIT
"""Training: the loop, its phases, distillation, and the whole way to a model file."""
