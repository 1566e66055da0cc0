# SPDX-License-Identifier: MIT
"""Small models are fastest in one thread, and tests may share the machine."""

import torch

torch.set_num_threads(1)
