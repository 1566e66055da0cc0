# SPDX-License-Identifier: MIT
"""The ternary student: a timm VisionTransformer with ternary layers, in float or in exact integers."""

import json
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from trainer.errors import require
from trainer.integer.network import IntegerNetwork
from trainer.model.layers import TernarySettings, convert_to_ternary, dampen, set_full_precision, start_learned_scales
from trainer.model.vit import ModelSettings, architecture_of, create_vit


@dataclass(frozen=True)
class Pixels:
    """Mean and standard deviation of pixel / 255, for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        require(len(self.mean) == len(self.std) in (1, 3), "mean and std need one or three numbers each")
        require(min(self.std) > 0, "std must be above 0")

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [batch, height, width, channels] to float [batch, channels, height, width]."""
        mean, std = (torch.tensor(values, device=images.device) for values in (self.mean, self.std))
        return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Blueprint:
    """All that an untrained student is made from; `name` is what its model file calls it."""

    name: str
    model: ModelSettings
    img_size: int
    labels: tuple[str, ...]
    pixels: Pixels
    ternary: TernarySettings = field(default_factory=TernarySettings)


class Student(nn.Module):
    """A fully ternary timm VisionTransformer on uint8 pictures [batch, height, width, channels].

    While `fracs` is empty it computes with float activations; once calibrate() has filled `fracs` (the frac of every
    activation, SPEC 1.5), every forward follows SPEC's integers exactly, with straight-through gradients.
    """

    def __init__(self, blueprint: Blueprint):
        super().__init__()
        self.blueprint, self.pixels = blueprint, blueprint.pixels
        self.vit = create_vit(blueprint.model, blueprint.img_size, len(self.pixels.mean), len(blueprint.labels))
        self.architecture = architecture_of(self.vit, blueprint.name)
        convert_to_ternary(self.vit, blueprint.ternary)
        self.fracs: dict[str, int] = {}
        self.keep_features = False
        self.features: Tensor | None = None  # of the last training forward, where keep_features is set
        # What timm's tasks ask of a model.
        self.num_classes, self.in_chans = len(blueprint.labels), len(self.pixels.mean)
        self.pretrained_cfg = {"mean": self.pixels.mean, "std": self.pixels.std}

    def forward(self, images: Tensor) -> Tensor:
        """images: uint8 [batch, height, width, channels]; returns logits, float [batch, classes]."""
        if self.fracs:
            network = IntegerNetwork(self)
            # Autocast would round the integers.
            with torch.autocast(images.device.type, enabled=False):
                features = network.features(images)
                logits = network.head(features) * 2.0 ** -self.fracs["head"]
        else:
            tokens = self.vit.forward_features(self.pixels.normalize(images))
            features = self.vit.forward_head(tokens, pre_logits=True)
            logits = self.vit.head(features)
        if self.training and self.keep_features:
            self.features = features
        return logits

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers shall not pull to zero, though they are no vectors."""
        names = {f"vit.{name}" for name in self.vit.no_weight_decay()}
        return names | {name for name, _ in self.named_parameters() if name.endswith(".scale")}

    def full_precision(self, on: bool) -> None:
        """Compute with the latent weights (True) or their trits (False)."""
        set_full_precision(self.vit, on)

    def dampen(self, part: float) -> None:
        """Move latent matrices towards what they are as ternary ones, by `part` (0 to 1) of the distance."""
        dampen(self.vit, part)

    def start_learned_scales(self) -> None:
        """Put learned scales to what their rule makes of the weights as they now are."""
        start_learned_scales(self.vit)

    def description(self) -> dict[str, str]:
        """Metadata for a checkpoint: all that restore needs."""
        return {"blueprint": json.dumps(asdict(self.blueprint)), "fracs": json.dumps(self.fracs)}
