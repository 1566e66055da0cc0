# SPDX-License-Identifier: MIT
"""The frozen FP32 teacher: any timm model, on the same uint8 pictures as the student."""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from trainer.data.jitter import resized
from trainer.errors import TrainerError
from trainer.model.pixels import Pixels
from trainer.model.vit import ModelSettings, create_timm


@register_model
def small_resnet(
    pretrained: bool = False,
    layers: Sequence[int] = (1, 1, 1, 1),
    channels: Sequence[int] = (32, 64, 96, 128),
    stem_stride: int = 1,
    **arguments: Any,
) -> ResNet:
    """timm's ResNet of basic blocks for small pictures: timm's stem halves a picture twice, this one by `stem_stride`.

    layers, channels: blocks and channels of each of the four stages; stem_stride: 1 or 2
    """
    if pretrained:
        raise ValueError("small_resnet has no pretrained weights")
    for unused in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        arguments.pop(unused, None)
    net = ResNet(BasicBlock, tuple(layers), channels=tuple(channels), **arguments)
    net.conv1 = nn.Conv2d(arguments["in_chans"], 64, 3, stem_stride, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


@dataclass(frozen=True)
class TeacherBlueprint:
    """What an untrained teacher is made from.

    img_size: argument of the timm model, 0 for a model that takes none; side: to which pictures are resized before the
    model sees them, 0 for as they are.
    """

    model: ModelSettings
    classes: int
    pixels: Pixels
    img_size: int = 0
    side: int = 0


class Teacher(nn.Module):
    """A timm model on uint8 pictures [batch, height, width, channels]; logits float [batch, classes]."""

    def __init__(self, blueprint: TeacherBlueprint):
        super().__init__()
        self.blueprint, self.pixels = blueprint, blueprint.pixels
        sizes = {"img_size": blueprint.img_size} if blueprint.img_size else {}
        channels = len(blueprint.pixels.mean)
        self.net = create_timm(blueprint.model, num_classes=blueprint.classes, in_chans=channels, **sizes)
        if not hasattr(self.net, "get_classifier"):
            raise TrainerError(f"{blueprint.model.name}: timm does not name its classifier, it cannot teach")
        self.fused: tuple[nn.Module, ...] = ()  # no submodule: state_dict() holds the weights once

    def description(self) -> dict[str, str]:
        """Metadata of a checkpoint: what the constructor needs."""
        return {"teacher": json.dumps(asdict(self.blueprint))}

    def forward(self, images: Tensor) -> Tensor:
        """images: uint8 [batch, height, width, channels]."""
        net = self.fused[0] if self.fused else self.net
        return net(self.prepared(images))

    def prepared(self, images: Tensor) -> Tensor:
        """What the model sees of pictures: float32 [batch, channels, side, side]."""
        return self.pixels.normalize(resized(images, self.blueprint.side or images.shape[1]))

    def _apply(self, fn: Callable, recurse: bool = True) -> "Teacher":
        """See nn.Module, which implements .to() and similar with this method; applied to the fused copy, too."""
        for net in self.fused:
            net._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features before the classifier [batch, F], and logits."""
        maps = self.net.forward_features(self.prepared(images))
        pooled = self.net.forward_head(maps, pre_logits=True)
        return pooled, self.net.get_classifier()(pooled)

    def freeze(self) -> "Teacher":
        """Evaluation mode, no gradients; BatchNorms are fused into convolutions if torch.fx can trace the model."""
        self.eval().requires_grad_(False)
        if any(isinstance(module, nn.BatchNorm2d) for module in self.net.modules()):
            # torch.fx fails in many ways; the model then stays unfused.
            with contextlib.suppress(Exception):
                self.fused = (fuse(self.net),)
        return self
