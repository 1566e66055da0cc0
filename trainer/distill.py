# SPDX-License-Identifier: MIT
"""Knowledge distillation from the frozen FP32 teacher."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.config import DistillationSettings


def distillation_loss(
    teacher: nn.Module, settings: DistillationSettings
) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """A loss (model, images, labels) -> scalar: T^2 KL(teacher / T || student / T) + label_weight * cross-entropy.

    The factor T^2 keeps the gradient's size independent of the temperature (Hinton et al., arXiv 1503.02531).
    """
    teacher.eval().requires_grad_(False)
    temperature = settings.temperature

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            target = torch.softmax(teacher(images).float() / temperature, 1)
        logits = model(images).float()
        student = torch.log_softmax(logits / temperature, 1)
        divergence = functional.kl_div(student, target, reduction="batchmean") * temperature**2
        return divergence + settings.label_weight * functional.cross_entropy(logits, labels)

    return loss
