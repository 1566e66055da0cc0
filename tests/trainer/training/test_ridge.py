# SPDX-License-Identifier: MIT
"""The closed form against fits that really leave pictures out, solved by another library's least squares."""

import numpy as np
import pytest
import torch

from trainer.training.ridge import RIDGES, fit_ridge


def solved(x, y, share, ridge, unit, deviation, mean):
    """Weighted ridge regression with a free intercept as one least-squares problem."""
    z = (x - mean) / deviation
    root = np.sqrt(share)[:, None]
    design = np.hstack([z, np.ones((len(z), 1))]) * root
    penalty = np.hstack([np.sqrt(ridge * unit) * np.eye(x.shape[1]), np.zeros((x.shape[1], 1))])
    stacked = np.vstack([design, penalty])
    wanted = np.vstack([y * root, np.zeros((x.shape[1], y.shape[1]))])
    found = np.linalg.lstsq(stacked, wanted, rcond=None)[0]
    weight = found[:-1].T / deviation
    return weight, found[-1] - weight @ mean


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("versions", [1, 2])
@pytest.mark.parametrize("width", [6, 40])
def test_head_and_left_out_scores(versions, width, balanced):
    rng = np.random.default_rng(width)
    targets = np.array([0] * 11 + [1] * 5 + [2] * 8)
    features = rng.integers(-90, 90, (versions, len(targets), width)).astype(float)
    features[..., 0] += 60 * targets
    features[..., -1] = 3  # says nothing
    found = fit_ridge(torch.from_numpy(features), torch.from_numpy(targets), 3, balanced)
    x = features.reshape(-1, width)
    y = np.tile(2.0 * (targets[:, None] == np.arange(3)) - 1, (versions, 1))
    each = 3 * np.bincount(targets)[targets] if balanced else np.full(len(targets), len(targets))
    share = np.tile(1 / (versions * each), versions)
    mean = share @ x
    deviation = np.maximum(np.sqrt(share @ (x - mean) ** 2), 1e-3)
    z = (x - mean) / deviation * np.sqrt(share)[:, None]
    unit = np.linalg.eigvalsh(z.T @ z).clip(0).mean()

    weight, bias = solved(x, y, share, found.ridge, unit, deviation, mean)
    assert np.allclose(found.weight, weight, atol=1e-8)
    assert np.allclose(found.bias, bias, atol=1e-7)

    # One with the intercept's part: leaving out row p changes no weight of the others, nor the scale of features.
    errors = {ridge: 0.0 for ridge in RIDGES}
    for picture in range(len(targets)):
        kept = np.tile(np.arange(len(targets)) != picture, versions)
        for ridge in RIDGES:
            weight, bias = solved(x[kept], y[kept], share[kept], ridge, unit, deviation, mean)
            scores = x[~kept] @ weight.T + bias
            errors[ridge] += float((share[~kept][:, None] * (y[~kept] - scores) ** 2).sum())
            if ridge == found.ridge:
                assert np.allclose(found.left_out[picture], scores[0], atol=1e-5)
    assert found.ridge == min(errors, key=lambda ridge: errors[ridge])


def test_classes_weigh_the_same():
    """Ten times as many pictures of one class: the head stays where it was."""
    rng = np.random.default_rng(1)
    first = rng.normal(-10, 20, (1, 30, 2)).round()
    second = rng.normal(10, 20, (1, 30, 2)).round()
    even = fit_ridge(torch.from_numpy(np.concatenate([first, second], 1)), torch.tensor([0] * 30 + [1] * 30), 2)
    many = np.concatenate([np.tile(first, (1, 10, 1)), second], 1)
    uneven = fit_ridge(torch.from_numpy(many), torch.tensor([0] * 300 + [1] * 30), 2)
    point = torch.zeros(2, dtype=torch.float64)
    assert even.weight @ point + even.bias == pytest.approx(uneven.weight @ point + uneven.bias, abs=0.05)
