# SPDX-License-Identifier: MIT
"""A linear head in closed form: ridge regression, whose ridge is chosen by leaving out each picture in turn."""

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = [10.0 ** (step / 2) for step in range(-8, 7)]  # in units of the features' mean variance
SMALLEST_DEVIATION = 1e-3  # of a feature, an integer: one that never changes says nothing


@dataclass(frozen=True)
class Ridge:
    """weight: float64 [classes, F] and bias [classes] on features as they come; a picture of the class scores about 1,
    others about -1. ridge: of RIDGES; left_out: [pictures, classes], the scores that each picture gets from a head
    fitted to the others."""

    weight: Tensor
    bias: Tensor
    ridge: float
    left_out: Tensor


def fit_ridge(features: Tensor, targets: Tensor, classes: int, balanced: bool = True) -> Ridge:
    """Fit a head to features [versions, pictures, F], of each picture one or two (mirrored) versions.

    targets: int64 [pictures]; balanced: classes weigh the same, however many pictures they have; otherwise pictures do.
    The ridge has the least squared error on pictures that are left out with all their versions.
    """
    versions, pictures, width = features.shape
    x = features.double().reshape(-1, width)
    y = 2.0 * torch.nn.functional.one_hot(targets, classes).double() - 1
    y = y.repeat(versions, 1)
    counts = torch.bincount(targets, minlength=classes).clamp(min=1)
    each = classes * counts[targets].double() if balanced else torch.full([pictures], pictures, dtype=torch.float64)
    share = (1.0 / (versions * each)).repeat(versions)  # of each row, 1 in all
    mean, centre = share @ x, share @ y
    deviation = (share @ (x - mean).square()).sqrt().clamp(min=SMALLEST_DEVIATION)
    root = share.sqrt()[:, None]
    rows, wanted = (x - mean) / deviation * root, (y - centre) * root
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    rows = rows @ vectors
    products = rows.T @ wanted
    unit = values.clamp(min=0).mean().clamp(min=1e-12)
    best: tuple[float, float, Tensor] | None = None
    for ridge in RIDGES:
        inverse = 1 / (values.clamp(min=0) + ridge * unit)
        errors = wanted - rows @ (inverse[:, None] * products)
        # The intercept takes its part of every row, too.
        scaled = torch.cat([rows * inverse.sqrt(), root], 1).view(versions, pictures, -1)
        left_out = without_each(scaled, errors.view(versions, pictures, classes))
        total = left_out.square().sum().item()
        if best is None or total < best[0]:
            best = total, ridge, left_out
    assert best is not None
    _, ridge, missed = best
    inverse = 1 / (values.clamp(min=0) + ridge * unit)
    weight = (vectors @ (inverse[:, None] * products)).T / deviation
    scores = (y - torch.cat(list(missed / root.view(versions, pictures, 1))))[:pictures]
    return Ridge(weight, centre - weight @ mean, ridge, scores)


def without_each(rows: Tensor, errors: Tensor) -> Tensor:
    """Errors [versions, pictures, classes] on pictures that were left out, from those of a fit to all.

    rows: [versions, pictures, n], whose inner products are the hat matrix.
    """
    hats = torch.einsum("apk,bpk->pab", rows, rows)
    system = torch.eye(len(rows), dtype=rows.dtype) - hats
    # A picture that nothing but itself explains would divide by 0.
    system += 1e-9 * torch.eye(len(rows), dtype=rows.dtype)
    return torch.linalg.solve(system, errors.permute(1, 0, 2)).permute(1, 0, 2)
