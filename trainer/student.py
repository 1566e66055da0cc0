# SPDX-License-Identifier: MIT
"""The ternary student: a timm VisionTransformer with ternary layers, in float or in exact integers."""

import json
from dataclasses import asdict, dataclass

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.integer import integer_logits
from trainer.layers import convert_to_ternary
from trainer.package import import_ftervit


@dataclass(frozen=True)
class Architecture:
    """Sizes of a vision transformer, named as in the model file (SPEC 10.4)."""

    name: str
    img_size: int
    patch_size: int
    in_chans: int
    num_classes: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_hidden: int
    pool: str = "token"

    def __post_init__(self) -> None:
        problem = import_ftervit().modelfile.architecture_problem(asdict(self))
        if problem:
            raise TrainerError(": ".join(problem))


class Student(nn.Module):
    """A fully ternary timm VisionTransformer on uint8 pictures [batch, height, width].

    While `fracs` is empty it computes with float activations; once calibrate() has filled `fracs` (the frac of every
    activation, SPEC 1.5), every forward follows SPEC's integers exactly, with straight-through gradients.
    """

    def __init__(self, architecture: Architecture, mean: float, std: float):
        super().__init__()
        self.architecture = architecture
        self.vit = VisionTransformer(
            img_size=architecture.img_size,
            patch_size=architecture.patch_size,
            in_chans=architecture.in_chans,
            num_classes=architecture.num_classes,
            embed_dim=architecture.embed_dim,
            depth=architecture.depth,
            num_heads=architecture.num_heads,
            # timm truncates width * ratio: half a feature more keeps rounding from losing one.
            mlp_ratio=(architecture.mlp_hidden + 0.5) / architecture.embed_dim,
            global_pool=architecture.pool,
        )
        convert_to_ternary(self.vit)
        self.mean, self.std = mean, std
        self.fracs: dict[str, int] = {}

    def forward(self, images: Tensor) -> Tensor:
        """images: uint8 [batch, height, width]; returns logits, float [batch, classes]."""
        if self.fracs:
            logits = integer_logits(self, images)
            return logits * 2.0 ** -self.fracs["head"]
        return self.vit(((images.float() / 255 - self.mean) / self.std).unsqueeze(1))

    def description(self) -> dict[str, str]:
        """Metadata for the committed checkpoint: all that the constructor and `fracs` need."""
        return {
            "architecture": json.dumps(asdict(self.architecture)),
            "pixels": json.dumps({"mean": self.mean, "std": self.std}),
            "fracs": json.dumps(self.fracs),
        }
