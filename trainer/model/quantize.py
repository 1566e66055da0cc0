# SPDX-License-Identifier: MIT
"""Ternarization rules with straight-through gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.errors import TrainerError

TWN_THRESHOLD = 0.7  # of the mean magnitude
LLOYD_STEPS = 6  # the trits of Gaussian rows of 96 to 1536 weights stop changing after 3 to 6
SMALLEST_SCALE = 1e-8  # of a learned scale


def survivors_mean(magnitude: Tensor, survives: Tensor) -> Tensor:
    """Mean of the magnitudes [channels, n] that survive, [channels, 1]; it minimises the squared error for them."""
    return (magnitude * survives).sum(1, keepdim=True) / survives.sum(1, keepdim=True).clamp(min=1)


def absmean(weight: Tensor) -> tuple[Tensor, Tensor]:
    """BitNet b1.58 (arXiv 2402.17764): scale = mean |w|, trit = w / scale rounded and clipped."""
    scale = weight.abs().mean(1, keepdim=True)
    return torch.round(weight / scale.clamp(min=SMALLEST_SCALE)).clamp(-1, 1), scale


def twn(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Ternary Weight Networks (arXiv 1605.04711): 0 up to 0.7 mean |w|, scale = mean |w| of the survivors."""
    magnitude = weight.abs()
    survives = magnitude > TWN_THRESHOLD * magnitude.mean(1, keepdim=True)
    return weight.sign() * survives, survivors_mean(magnitude, survives)


def least_squares(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Trits and scale of (locally) least squared error: Lloyd's iteration from TWN's start.

    For a scale the best trits are 0 up to half of it; for trits the best scale is the survivors' mean.
    """
    magnitude = weight.abs()
    scale = twn(weight)[1]
    for _ in range(LLOYD_STEPS):
        survives = magnitude > 0.5 * scale
        scale = survivors_mean(magnitude, survives)
    return weight.sign() * survives, scale


RULES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "absmean": absmean,
    "twn": twn,
    "least_squares": least_squares,
    "learned": least_squares,  # where the scale starts; see LearnedScale
}
GRANULARITIES = ("channel", "tensor")


@dataclass(frozen=True)
class Rule:
    """How weights become trits: one of RULES; `per`: one scale for each output channel, or for the whole tensor."""

    name: str = "twn"
    per: str = "channel"

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise TrainerError(f"rule is {self.name!r}, must be one of {', '.join(RULES)}")
        if self.per not in GRANULARITIES:
            raise TrainerError(f"per is {self.per!r}, must be one of {', '.join(GRANULARITIES)}")

    @property
    def learned(self) -> bool:
        """Whether layers carry their scale as a parameter."""
        return self.name == "learned"

    def __call__(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Trits of `weight` [channels, n], and a scale for each channel [channels, 1]."""
        if self.per == "channel":
            return RULES[self.name](weight)
        trits, scale = RULES[self.name](weight.reshape(1, -1))
        return trits.view_as(weight), scale.expand(len(weight), 1)


class StraightThrough(torch.autograd.Function):
    """Value of `exact`, gradient to `surrogate`."""

    @staticmethod
    def forward(ctx: Any, surrogate: Tensor, exact: Tensor) -> Tensor:
        return exact.to(surrogate.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def straight_through(surrogate: Tensor, exact: Tensor) -> Tensor:
    """The value of `exact` with the gradient of `surrogate`; both of one shape."""
    return StraightThrough.apply(surrogate, exact.detach())


def ternary_weight(weight: Tensor, rule: Rule) -> Tensor:
    """`weight` [channels, ...] replaced by scale * trit, with the gradient passed straight through."""
    trits, scale = rule(weight.detach().flatten(1))
    return straight_through(weight, (trits * scale).view_as(weight))


def learned_trits(weight: Tensor, scale: Tensor) -> Tensor:
    """Trits of `weight` [channels, n] under given scales [channels, 1]: 0 up to half the scale."""
    return torch.round(weight / scale.abs().clamp(min=SMALLEST_SCALE)).clamp(-1, 1)


class LearnedScale(torch.autograd.Function):
    """scale * trit with learned step size's gradients (LSQ, arXiv 1902.08153).

    A weight within +-scale gets the gradient unchanged, one beyond it none; the scale's gradient is divided by
    sqrt(n), n weights sharing it.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        trits = learned_trits(weight, scale)
        ctx.save_for_backward(weight, scale, trits)
        return trits * scale.abs()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        weight, scale, trits = ctx.saved_tensors
        ratio = weight / scale.abs().clamp(min=SMALLEST_SCALE)
        inside = ratio.abs() <= 1
        slope = torch.where(inside, trits - ratio, trits) * gradient
        shared = weight.numel() / scale.numel()
        # A scale of 0, as that of a beta that starts at 0, must be able to grow.
        sign = torch.where(scale < 0, -1.0, 1.0)
        return gradient * inside, slope.sum_to_size(scale.shape) * sign / shared**0.5
