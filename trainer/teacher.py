# SPDX-License-Identifier: MIT
"""The FP32 teacher: a small timm ResNet for 28 x 28 pictures."""

import json

import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from trainer.data import Split


class Teacher(nn.Module):
    """timm ResNet of basic blocks with a stride-1 stem, on uint8 pictures.

    A convolutional teacher reaches in minutes on small pictures what a small ViT needs hours for.

    layers, channels: blocks and channels of each stage; mean, std: of pixel / 255, over the training set.
    """

    def __init__(self, layers: list[int], channels: list[int], classes: int, mean: float, std: float):
        super().__init__()
        self.net = ResNet(BasicBlock, tuple(layers), classes, in_chans=1, channels=tuple(channels))
        # timm's stem halves a picture twice; 28 x 28 has nothing to spare.
        self.net.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        self.net.maxpool = nn.Identity()
        self.mean, self.std = mean, std
        self.arguments = {
            "layers": layers,
            "channels": channels,
            "classes": classes,
            "mean": mean,
            "std": std,
        }

    def description(self) -> dict[str, str]:
        """Metadata for the committed checkpoint: all that the constructor needs."""
        return {"teacher": json.dumps(self.arguments)}

    def forward(self, images: Tensor) -> Tensor:
        """images: uint8 [batch, 28, 28]; returns logits float [batch, classes]."""
        x = (images.float() / 255 - self.mean) / self.std
        return self.net(x.unsqueeze(1).contiguous(memory_format=torch.channels_last))


def pixel_statistics(split: Split) -> tuple[float, float]:
    """Mean and standard deviation of pixel / 255."""
    pixels = split.images.double() / 255
    return float(pixels.mean()), float(pixels.std())
