# SPDX-License-Identifier: MIT
"""SPEC 5: the residual stream, and the class token and positions in its start."""

import torch
from torch import Tensor, nn

from trainer.model.quantize import straight_through


def residual_add(residual: Tensor, branch: Tensor, shift: int) -> Tensor:
    """SPEC 5.1."""
    return (residual + branch * 2.0**shift).clamp(-32768, 32767)


def residual_start(
    first: Tensor, tokens: Tensor, position: Tensor, first_shift: int, tokens_shift: int, position_shift: int
) -> Tensor:
    """SPEC 5.2: class token [1, 1, D], patch embeddings [batch, T - 1, D] and positions [1, T - 1, D] to [batch, T, D],
    each with its shift."""
    tokens = residual_add(tokens * 2.0**tokens_shift, position, position_shift)
    first = (first * 2.0**first_shift).expand(len(tokens), -1, -1)
    return torch.cat((first, tokens), 1)


def embedding(parameter: Tensor, frac: int) -> Tensor:
    """A class or position embedding as int8, with a straight-through gradient."""
    surrogate = (parameter * 2.0**frac).clamp(-128, 127)
    return straight_through(surrogate, torch.round(surrogate))


def class_token(vit: nn.Module) -> Tensor:
    """cls_token of SPEC 5.2, [1, 1, D]: its position included."""
    return vit.cls_token if vit.no_embed_class else vit.cls_token + vit.pos_embed[:, :1]


def positions(vit: nn.Module) -> Tensor:
    """pos_embed of SPEC 5.2, [1, T - 1, D]: those of the patches."""
    return vit.pos_embed if vit.no_embed_class else vit.pos_embed[:, 1:]


def round_embeddings(vit: nn.Module, fracs: dict[str, int]) -> None:
    """Set class token and positions of a float model to the values of their int8 forms."""
    with torch.no_grad():
        first = embedding(class_token(vit), fracs["cls_token"]) * 2.0 ** -fracs["cls_token"]
        others = embedding(positions(vit), fracs["pos_embed"]) * 2.0 ** -fracs["pos_embed"]
        vit.cls_token.copy_(first)
        vit.pos_embed.copy_(others if vit.no_embed_class else torch.cat((torch.zeros_like(first), others), 1))
