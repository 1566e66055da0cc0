# SPDX-License-Identifier: MIT
"""trainer.experiments.stress: errors that grow where they must, and the table of them."""

import json

import pytest
import torch

from trainer.experiments import stress


def test_errors_grow_with_the_spread_of_gammas():
    rows = [stress.gamma_row(sigma) for sigma in (0.0, 0.3, 1.0)]
    for rule in stress.GAMMA_RULES:
        assert rows[0][rule] < rows[1][rule] < rows[2][rule] < 1
    for row in rows:
        assert row["behind"] >= row["linear"]
        assert row["least_squares"] <= row["twn"] + 0.01


def test_a_layernorm_with_equal_gammas_costs_nothing_but_its_betas():
    layer = stress.spread_layernorm(0.0)
    with torch.no_grad():
        layer.bias.zero_()
        x = torch.randn(20, stress.WIDTH)
        assert stress.relative_error(stress.ternary_twin(layer, "twn")(x), layer(x)) < 1e-6


def test_static_scales_cost_more_than_per_token_ones_with_large_channels(monkeypatch):
    monkeypatch.setattr(stress, "PICTURES", 6)
    row = stress.outlier_row(100)
    assert row["factor"] == 100
    assert 0 < row["per_token"] < row["static"]


def test_table_is_markdown():
    gammas = [{"sigma": 0.1, "absmean": 0.5, "twn": 0.25, "least_squares": 0.125, "linear": 0.3, "behind": 0.4}]
    outliers = [{"factor": 10, "static": 0.2, "per_token": 0.1, "same_class_static": 0.9, "same_class_per_token": 1.0}]
    text = stress.table({"gammas": gammas, "outliers": outliers})
    assert "| 0.1 | 50.0 % | 25.0 % | 12.5 % | 30.0 % | 40.0 % |" in text
    assert "| 10 | 20.0 % | 10.0 % | 90.0 % | 100.0 % |" in text


def test_measure_writes_and_returns_the_table(monkeypatch, tmp_path):
    monkeypatch.setattr(stress, "SIGMAS", (0.1,))
    monkeypatch.setattr(stress, "FACTORS", ())
    text = stress.measure(tmp_path / "stress.json")
    results = json.loads((tmp_path / "stress.json").read_text())
    assert results["gammas"][0]["sigma"] == pytest.approx(0.1)
    assert text == stress.table(results)
