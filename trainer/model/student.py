# SPDX-License-Identifier: MIT
"""The ternary student: a timm VisionTransformer with ternary layers."""

import json
from dataclasses import asdict, dataclass, field
from typing import Protocol

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from trainer.model.layers import TernarySettings, convert_to_ternary, dampen, set_full_precision, start_learned_scales
from trainer.model.pixels import Pixels
from trainer.model.vit import ModelSettings, architecture_of, create_vit


@dataclass(frozen=True)
class Blueprint:
    """What an untrained student is made from; name: in the model file."""

    name: str
    model: ModelSettings
    img_size: int
    labels: tuple[str, ...]
    pixels: Pixels
    ternary: TernarySettings = field(default_factory=TernarySettings)


class Arithmetic(Protocol):
    """How a student computes: with FloatArithmetic, or in SPEC's integers with trainer.integer's IntegerNetwork.

    fracs: the frac of every activation (SPEC 1.5) by name, empty in float.
    """

    fracs: dict[str, int]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What enters the head [batch, D] and float logits [batch, classes], for images uint8
        [batch, height, width, channels]."""


class FloatArithmetic:
    """Ternary weights, float activations."""

    def __init__(self, vit: VisionTransformer, pixels: Pixels):
        self.vit, self.pixels = vit, pixels
        self.fracs: dict[str, int] = {}

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See Arithmetic."""
        features = self.vit.forward_head(self.vit.forward_features(self.pixels.normalize(images)), pre_logits=True)
        return features, self.vit.head(features)


class Student(nn.Module):
    """A fully ternary timm VisionTransformer on uint8 pictures [batch, height, width, channels].

    arithmetic: how forward computes; float until calibrate() makes it SPEC's integers.
    """

    def __init__(self, blueprint: Blueprint):
        super().__init__()
        self.blueprint, self.pixels = blueprint, blueprint.pixels
        self.vit = create_vit(blueprint.model, blueprint.img_size, len(self.pixels.mean), len(blueprint.labels))
        self.architecture = architecture_of(self.vit, blueprint.name)
        convert_to_ternary(self.vit, blueprint.ternary)
        self.arithmetic: Arithmetic = FloatArithmetic(self.vit, self.pixels)
        self.keep_features = False
        self.features: Tensor | None = None  # of the last training forward, where keep_features is set
        # What timm's tasks ask of a model.
        self.num_classes, self.in_chans = len(blueprint.labels), len(self.pixels.mean)
        self.pretrained_cfg = {"mean": self.pixels.mean, "std": self.pixels.std}

    @property
    def fracs(self) -> dict[str, int]:
        """The frac of every activation (SPEC 1.5) by name; empty before calibration."""
        return self.arithmetic.fracs

    @property
    def calibrated(self) -> bool:
        """Whether it computes in SPEC's integers."""
        return bool(self.fracs)

    def forward(self, images: Tensor) -> Tensor:
        """images: uint8 [batch, height, width, channels]; returns logits, float [batch, classes]."""
        features, logits = self.arithmetic(images)
        if self.training and self.keep_features:
            self.features = features
        return logits

    def no_weight_decay(self) -> set[str]:
        """Parameters with more than one dimension that timm's optimizers must not decay."""
        names = {f"vit.{name}" for name in self.vit.no_weight_decay()}
        return names | {name for name, _ in self.named_parameters() if name.endswith(".scale")}

    def full_precision(self, on: bool) -> None:
        """Compute with the latent weights (True) or their trits (False)."""
        set_full_precision(self.vit, on)

    def dampen(self, part: float) -> None:
        """Move latent matrices towards their ternary values, by `part` (0 to 1) of the distance."""
        dampen(self.vit, part)

    def start_learned_scales(self) -> None:
        """Set learned scales to what their rule gives for the current weights."""
        start_learned_scales(self.vit)

    def description(self) -> dict[str, str]:
        """Metadata of a checkpoint: what training.restore needs."""
        return {"blueprint": json.dumps(asdict(self.blueprint)), "fracs": json.dumps(self.fracs)}
