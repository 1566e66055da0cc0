# SPDX-License-Identifier: MIT
"""The paper's three ternary layers as trainable modules: latent float weights, ternary in every forward."""

import torch
from timm.layers import LayerNorm
from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import TrainerError
from trainer.quantize import ternarize, ternary_weight


class TernaryBitLinear(nn.Linear):
    """nn.Linear whose weight [N, K] is ternary with one scale per output."""

    full_precision = False  # True while training has not begun to ternarize

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., K]; returns float [..., N]."""
        weight = self.weight if self.full_precision else ternary_weight(self.weight)
        return functional.linear(x, weight, self.bias)

    def rows(self) -> Tensor:
        """The latent weight as the matrix [N, K] that SPEC packs."""
        return self.weight


class TernaryBitConv2d(nn.Conv2d):
    """nn.Conv2d whose weight is ternary with one scale per output channel."""

    full_precision = False

    def forward(self, x: Tensor) -> Tensor:
        """x: float [batch, channels, height, width]."""
        weight = self.weight if self.full_precision else ternary_weight(self.weight)
        return self._conv_forward(x, weight, self.bias)

    def rows(self) -> Tensor:
        """The latent weight as [N, K], K in the order (ky, kx, channel) of SPEC 4.6."""
        return self.weight.permute(0, 2, 3, 1).flatten(1)


class TernaryLayerNorm(LayerNorm):
    """LayerNorm over the last dimension whose gamma and beta are ternary with one scale each."""

    full_precision = False

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., D]; returns the same shape."""
        if self.full_precision:
            return super().forward(x)
        gamma, beta = ternary_weight(torch.stack((self.weight, self.bias)))
        return functional.layer_norm(x, self.normalized_shape, gamma, beta, self.eps)

    def ternary_parameters(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(trits [D], scale) of gamma and of beta."""
        gamma, beta = (ternarize(p.detach()[None]) for p in (self.weight, self.bias))
        return (gamma[0][0], gamma[1][0, 0]), (beta[0][0], beta[1][0, 0])


TERNARY_LAYERS = (TernaryBitLinear, TernaryBitConv2d, TernaryLayerNorm)


def _ternary_twin(name: str, module: nn.Module) -> nn.Module | None:
    """The ternary layer for a leaf module, or None when it has nothing to ternarize."""
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is None:
        raise TrainerError(f"{name}: {type(module).__name__} without bias has no ternary form")
    if isinstance(module, nn.Linear):
        return TernaryBitLinear(module.in_features, module.out_features)
    if isinstance(module, nn.Conv2d):
        return TernaryBitConv2d(module.in_channels, module.out_channels, module.kernel_size, module.stride)
    if isinstance(module, nn.LayerNorm):
        return TernaryLayerNorm(module.normalized_shape, module.eps)
    if not list(module.children()) and list(module.parameters()):
        raise TrainerError(f"{name}: {type(module).__name__} has weights but no ternary form")
    return None


def convert_to_ternary(model: nn.Module, prefix: str = "") -> None:
    """Replace every linear, patch convolution and LayerNorm of a timm model in place, under timm's names."""
    for name, child in model.named_children():
        twin = _ternary_twin(prefix + name, child)
        if twin is None:
            convert_to_ternary(child, f"{prefix}{name}.")
        else:
            twin.load_state_dict(child.state_dict())
            setattr(model, name, twin)


def set_full_precision(model: nn.Module, full_precision: bool) -> None:
    """Switch ternarization off (True) or on (False) in every ternary layer."""
    for module in model.modules():
        if isinstance(module, TERNARY_LAYERS):
            module.full_precision = full_precision
