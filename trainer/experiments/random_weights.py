# SPDX-License-Identifier: MIT
"""Random weights under which every part of a network matters: timm's untrained heads and norms are constant."""

import torch

from trainer.model.student import Student


def randomize(student: Student) -> None:
    """Draw weights, scales, gammas, betas, biases and BatchNorm's statistics from torch's random numbers, in place."""
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if name.endswith(("cls_token", "pos_embed")):
                parameter.normal_(std=0.5)
            elif parameter.ndim > 1 and not name.endswith(".scale"):
                parameter.normal_(std=parameter[0].numel() ** -0.5)
                parameter.mul_(torch.exp2(torch.randn(len(parameter)).view(-1, *[1] * (parameter.ndim - 1))))
            elif parameter.ndim == 1:
                parameter.add_(0.5 * torch.randn_like(parameter))
        for name, buffer in student.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.copy_(torch.exp2(torch.randn_like(buffer)))
