# SPDX-License-Identifier: MIT
"""SPEC 9: a whole network in integers, exact in value, with the gradients of its float counterpart."""

from typing import Self

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.integer.attention import integer_attention, qkv_fracs, qkv_limits
from trainer.integer.head import integer_head
from trainer.integer.image import Normalization
from trainer.integer.layernorm import integer_layernorm
from trainer.integer.linear import Affine, Effective, Place, integer_linear
from trainer.integer.lookup import integer_activation
from trainer.integer.mean import POOLINGS, integer_mean
from trainer.integer.operations import LAST_NORM, RESIDUAL, STAGE, Kind, Operation, Walker, operations
from trainer.integer.patches import integer_convolution
from trainer.integer.residual import class_token, embedding, positions, residual_add, residual_start
from trainer.model.layers import Ternary
from trainer.model.pixels import Pixels
from trainer.model.student import Student
from trainer.model.vit import Architecture


def following(vit: nn.Module, name: str) -> Affine | None:
    """LayerScale behind attn.proj or mlp.fc2, BatchNorm (with its running statistics) behind a stem convolution."""
    block, _, layer = name.rpartition(".")
    if layer == "conv":
        norm = vit.get_submodule(f"{block}.bn")
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return Affine(gain, norm.bias - norm.running_mean * gain)
    scale = {"attn.proj": "ls1", "mlp.fc2": "ls2"}.get(".".join(name.split(".")[2:]))
    gamma = getattr(vit.get_submodule(block.rpartition(".")[0]).get_submodule(scale), "gamma", None) if scale else None
    return None if gamma is None else Affine(gamma, torch.zeros_like(gamma))


class IntegerNetwork:
    """The arithmetic of a calibrated student (model.student.Arithmetic): its layers as SPEC's integers.

    fracs: of every activation by name; forward, calibration and export read the same ones.
    """

    def __init__(self, vit: VisionTransformer, sizes: Architecture, pixels: Pixels, fracs: dict[str, int]):
        self.vit, self.sizes, self.pixels, self.fracs = vit, sizes, pixels, fracs
        self.operations = operations(sizes)
        self.inputs = {op.name: op.sources[0] for op in self.operations if op.kind in (Kind.LINEAR, Kind.CONVOLUTION)}

    @classmethod
    def of(cls, student: Student, fracs: dict[str, int]) -> Self:
        """The network of a student's layers."""
        return cls(student.vit, student.architecture, student.pixels, fracs)

    @property
    def normalization(self) -> Normalization:
        """SPEC 3.5."""
        return Normalization.fold(self.pixels, self.fracs["input"])

    def layer(self, name: str) -> Ternary:
        """A ternary layer by timm's name; TrainerError for one that was left in full precision."""
        layer = self.vit.get_submodule(name)
        if not isinstance(layer, Ternary):
            raise TrainerError(f"{name} is {type(layer).__name__}: SPEC computes ternary layers only")
        return layer

    def following(self, name: str) -> Affine | None:
        """What folds into the layer `name`."""
        return following(self.vit, name)

    def effective(self, name: str) -> Effective:
        """The layer `name` with what folds into it."""
        return Effective.of(self.layer(name), self.following(name))

    def act(self, name: str) -> nn.Module:
        """The activation function that the model file calls `name`."""
        if name.startswith(STAGE):
            return self.vit.get_submodule(name.removesuffix("act") + "bn.act")
        return self.vit.get_submodule(name)

    def embedding(self, name: str) -> Tensor:
        """The float values of cls_token [1, 1, D] or pos_embed [1, T - 1, D] of SPEC 5.2."""
        return {"cls_token": class_token, "pos_embed": positions}[name](self.vit)

    def residual_shift(self, name: str) -> int:
        """SPEC 5.1's k of a branch."""
        return self.fracs[RESIDUAL] - self.fracs[name]

    def place(self, name: str) -> Place:
        """Fracs around the linear layer or convolution `name`, and the bounds of its multipliers."""
        in_frac, width = self.fracs[self.inputs[name]], self.sizes.embed_dim
        if name.endswith(".qkv"):
            out_frac = qkv_fracs(self.fracs, name.removesuffix(".qkv"), width)
            return Place(in_frac, out_frac, qkv_limits(width, width // self.sizes.num_heads))
        outputs = self.layer(name).weight.shape[0]
        return Place(in_frac, torch.full((outputs,), float(self.fracs[name])), torch.full((outputs,), 127.0))

    def features(self, images: Tensor, pooling: str = "token") -> Tensor:
        """SPEC 9.5: integers [batch, D], or [batch, 2 D] for "token+mean", of uint8 pictures
        [batch, height, width, channels]."""
        if pooling not in POOLINGS:
            raise TrainerError(f"pooling is {pooling!r}, needs one of {', '.join(POOLINGS)}")
        with torch.autocast(images.device.type, enabled=False):
            forward = Forward(self, images)
            forward.walk(self.operations[:-1])
            parts = [forward.values[LAST_NORM]] if pooling != "mean" else []
            if pooling != "token":
                parts.append(integer_mean(forward.norm(LAST_NORM, forward.values[RESIDUAL][:, 1:])))
        return torch.cat(parts, -1)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Integers [batch, D] that enter the head, and logits float64 [batch, classes], for uint8 pictures
        [batch, height, width, channels]; SPEC's logits are these times 2^frac."""
        # Autocast would round the integers.
        with torch.autocast(images.device.type, enabled=False):
            forward = Forward(self, images)
            forward.walk(self.operations)
        return forward.values[LAST_NORM], forward.values["head"] * 2.0 ** -self.fracs["head"]


class Forward(Walker):
    """One forward pass of a network. values: outputs by name, each kept until it is used."""

    def __init__(self, network: IntegerNetwork, images: Tensor):
        self.network, self.fracs, self.images = network, network.fracs, images
        self.values: dict[str, Tensor] = {}

    def take(self, name: str) -> Tensor:
        """The output `name`, which nothing else uses."""
        return self.values.pop(name)

    def input(self, operation: Operation) -> None:
        """int8 [batch, height, width, channels]."""
        self.values["input"] = self.network.normalization(self.images)

    def linear(self, operation: Operation) -> None:
        """[batch, T, K] to [batch, T, N]."""
        name, network = operation.name, self.network
        x = self.take(operation.sources[0])
        self.values[name] = integer_linear(network.layer(name), network.following(name), x, network.place(name))

    def convolution(self, operation: Operation) -> None:
        """[batch, height, width, channels] to [batch, rows, columns, N]."""
        name, network = operation.name, self.network
        picture = self.take(operation.sources[0])
        layer, after, place = network.layer(name), network.following(name), network.place(name)
        self.values[name] = integer_convolution(layer, after, picture, operation.geometry, place)

    def embedding(self, operation: Operation) -> None:
        """[1, 1, D] or [1, T - 1, D]."""
        self.values[operation.name] = embedding(self.network.embedding(operation.name), self.fracs[operation.name])

    def residual_start(self, operation: Operation) -> None:
        """[batch, T, D]."""
        first, tokens, position = map(self.take, operation.sources)
        shifts = map(self.network.residual_shift, operation.sources)
        self.values[RESIDUAL] = residual_start(first, tokens.flatten(1, 2), position, *shifts)

    def residual_add(self, operation: Operation) -> None:
        """[batch, T, D]."""
        (name,) = operation.sources
        self.values[RESIDUAL] = residual_add(self.values[RESIDUAL], self.take(name), self.network.residual_shift(name))

    def layernorm(self, operation: Operation) -> None:
        """[batch, T, D], the last one [batch, D]."""
        name, residual = operation.name, self.values[RESIDUAL]
        self.values[name] = self.norm(name, residual[:, 0] if name == LAST_NORM else residual)

    def norm(self, name: str, residual: Tensor) -> Tensor:
        """The LayerNorm `name` of rows [..., D] of the residual stream."""
        return integer_layernorm(self.network.layer(name), residual, self.fracs[RESIDUAL], self.fracs[name])

    def attention(self, operation: Operation) -> None:
        """[batch, T, 3 D] to [batch, T, D]."""
        qkv = self.take(operation.sources[0])
        heads = self.network.sizes.num_heads
        self.values[operation.name] = integer_attention(qkv, heads, self.fracs, operation.name)

    def lookup(self, operation: Operation) -> None:
        """The same shape."""
        name, (source,) = operation.name, operation.sources
        act = self.network.act(name)
        self.values[name] = integer_activation(act, self.take(source), self.fracs[source], self.fracs[name])

    def head(self, operation: Operation) -> None:
        """[batch, D], which stay, to [batch, classes]."""
        (source,) = operation.sources
        layer, features = self.network.layer("head"), self.values[source]
        self.values["head"] = integer_head(layer, features, self.fracs[source], self.fracs["head"])
