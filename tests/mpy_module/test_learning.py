# SPDX-License-Identifier: MIT
"""rms_norm, gram, drop_class, ridge_fit, ridge_scores, span_fit, span_distance, moments (SPEC 12)."""

import numpy as np
import pytest
import ternary

from tests import oracle
from tests.mpy_module.kernel import I8, I16, I32, U8, Out, Scratch, Updated, equal, on_every_target, refused, run

pytestmark = on_every_target
RIDGES = np.array([1024, 8192], I32)


def features(pictures, width, seed=0, classes=3):
    """Features [pictures, width] of SPEC 12.1 in clusters, and labels that all occur."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(pictures) % classes).astype(U8)
    centres = rng.normal(0, 30, (classes, width))
    raw = np.clip(centres[labels] + rng.normal(0, 20, (pictures, width)), -128, 127).astype(I8)
    return np.stack([oracle.rms_norm(x) for x in raw]), labels


def fit(x, labels, packed, ridges, classes):
    """ridge_fit on guarded memory: the same results as oracle.ridge_fit."""
    (pictures, width), n = x.shape, ternary.ridge_scratch(len(x), x.shape[1], classes)
    outs = [Out((classes, width), I8), Out((classes,), I32), Out((classes,), I32), Out((pictures,), I32)]
    best = ternary.ridge_fit(x, labels, packed, ridges, *(out.array for out in outs), (scratch := Scratch(n)).array)
    for out in (*outs, scratch):
        out.check()
    return best, *(out.array for out in outs)


def same(found, expected):
    """Equality of all results."""
    assert found[0] == expected[0]
    for a, b in zip(found[1:], expected[1:], strict=True):
        equal(a, b)


@pytest.mark.parametrize("width", [1, 2, 15, 33, 192, 4096])
def test_rms_norm(width):
    rng = np.random.default_rng(width)
    for span in (0, 1, 3, 20, 127):
        x = np.clip(rng.normal(0, span, width).round(), -128, 127).astype(I8)
        equal(run("rms_norm", x, Out((width,), I8)), oracle.rms_norm(x))
    for value in (-128, 1, 127):
        x = np.full(width, value, I8)
        equal(run("rms_norm", x, Out((width,), I8)), np.full(width, np.sign(value) * 32, I8))


def test_rms_norm_refuses():
    refused("rms_norm", np.ones(16, I8), Out((15,), I8))
    refused("rms_norm", np.ones(4097, I8), Out((4097,), I8))


def test_gram():
    for pictures, width in ((1, 1), (2, 5), (7, 16), (9, 33)):
        x, _ = features(pictures, width)
        packed = oracle.gram(x)
        equal(run("gram", x, width, pictures, Out(packed.shape, I16)), packed)
        equal(run("gram", x, width, 1, Out((pictures,), I16)), packed[-pictures:])


def test_gram_saturates():
    x = np.full((2, 8), -128, I8)
    assert run("gram", x, 8, 2, Out((3,), I16)).tolist() == [32767] * 3
    x[1] = 127
    assert run("gram", x, 8, 2, Out((3,), I16)).tolist() == [32767, -32768, 32767]


def test_gram_refuses():
    x = np.ones((3, 8), I8)
    for width, count, products in ((0, 1, 3), (7, 1, 3), (8, 0, 3), (8, 4, 6), (8, 3, 5), (8, 1, 2), (4097, 1, 1)):
        refused("gram", x, width, count, Out((products,), I16))
    refused("gram", np.ones((1025, 1), I8), 1, 1, Out((1025,), I16))


def test_drop_class():
    x, labels = features(11, 7)
    for dropped in range(4):
        memory, numbers = Updated(x), Updated(labels)
        left = ternary.drop_class(memory.array, numbers.array, dropped)
        stay = labels != dropped
        assert left == stay.sum()
        equal(memory.array[:left], x[stay])
        equal(numbers.array[:left], labels[stay] - (labels[stay] > dropped))
        memory.check()
        numbers.check()


def test_drop_class_refuses():
    for label in (-1, 100):
        refused("drop_class", Updated(np.ones((3, 4), I8)), Updated(np.zeros(3, U8)), label)
    refused("drop_class", Updated(np.ones(13, I8)), Updated(np.zeros(3, U8)), 0)


@pytest.mark.parametrize(("pictures", "width", "classes"), [(1, 4, 1), (2, 3, 2), (5, 9, 2), (13, 20, 3), (30, 33, 5)])
def test_ridge_fit(pictures, width, classes):
    x, labels = features(pictures, width, pictures, classes)
    packed = oracle.gram(x)
    for ridges in (RIDGES, RIDGES[::-1].copy(), RIDGES[:1], np.array([1], I32), np.array([65536], I32)):
        same(fit(x, labels, packed, ridges, classes), oracle.ridge_fit(x, labels, packed, ridges, classes))


def test_ridge_fit_with_an_absent_class():
    x, labels = features(6, 8, classes=2)
    packed = oracle.gram(x)
    same(fit(x, labels, packed, RIDGES, 4), oracle.ridge_fit(x, labels, packed, RIDGES, 4))


@pytest.mark.parametrize("seed", range(6))
def test_ridge_fit_of_any_numbers(seed):
    """Products that no features have: sums wrap, pivots are clamped, nothing else changes."""
    rng = np.random.default_rng(seed)
    pictures, width, classes = 9, 5, 3
    x = rng.choice(np.array([-128, 0, 127], I8), (pictures, width))
    labels = rng.integers(0, classes, pictures).astype(U8)
    packed = rng.choice(np.array([-32768, 0, 32767], I16), pictures * (pictures + 1) // 2)
    same(fit(x, labels, packed, RIDGES, classes), oracle.ridge_fit(x, labels, packed, RIDGES, classes, exact=False))


def test_ridge_fit_is_ridge_regression():
    """In float64: solve for all pictures, and again without each picture in turn."""
    x, labels = features(40, 64, classes=4)
    pictures, classes, ridge = 40, 4, 4096
    _, weights, multiplier, bias, margins = fit(x, labels, oracle.gram(x), np.array([ridge], I32), classes)
    kernel = x.astype(float) @ x.T / (1024 * 64)
    targets = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0)
    diagonal = np.diag(ridge / 16384 * classes * np.bincount(labels)[labels] / pictures)
    solution = np.linalg.solve(kernel + 1 + diagonal, targets)
    new, _ = features(10, 64, 1)
    expected = (new.astype(float) @ x.T / (1024 * 64) + 1) @ solution
    found = np.array([run("ridge_scores", f, weights, multiplier, bias, Out((classes,), I32)) for f in new]) / 65536
    assert np.abs(found - expected).max() < 0.02
    for i in range(pictures):
        stay = np.arange(pictures) != i
        solution = np.linalg.solve((kernel + 1 + diagonal)[stay][:, stay], targets[stay])
        scores = (kernel[i, stay] + 1) @ solution
        margin = scores[labels[i]] - np.delete(scores, labels[i]).max()
        assert abs(margins[i] / 65536 - margin) < 0.005


def test_ridge_fit_refuses():
    x, labels = features(6, 8)
    packed = oracle.gram(x)

    def outs(width=8, classes=3, pictures=6, scratch=0):
        size = ternary.ridge_scratch(6, 8, 3) - scratch
        return (Out((3, width), I8), Out((classes,), I32), Out((3,), I32), Out((pictures,), I32), Scratch(size))

    refused("ridge_fit", x, labels, packed[:-1], RIDGES, *outs())
    refused("ridge_fit", x, labels, packed, np.array([0], I32), *outs())
    refused("ridge_fit", x, labels, packed, np.array([65537], I32), *outs())
    refused("ridge_fit", x, labels + np.uint8(1), packed, RIDGES, *outs())
    refused("ridge_fit", x[:5], labels, packed, RIDGES, *outs())
    for wrong in (outs(width=7), outs(classes=2), outs(pictures=5), outs(scratch=16)):
        refused("ridge_fit", x, labels, packed, RIDGES, *wrong)


def test_ridge_scores():
    rng = np.random.default_rng(3)
    for width, classes in ((1, 1), (7, 3), (192, 20), (4096, 2)):
        f = rng.integers(-128, 128, width).astype(I8)
        weights = rng.integers(-127, 128, (classes, width)).astype(I8)
        multiplier = rng.integers(0, 2**31, classes).astype(I32)
        bias = rng.integers(-(2**31), 2**31, classes).astype(I32)
        found = run("ridge_scores", f, weights, multiplier, bias, Out((classes,), I32))
        equal(found, oracle.ridge_scores(f, weights, multiplier, bias))
    refused("ridge_scores", f, weights, np.array([0, -1], I32), bias, Out((2,), I32))
    refused("ridge_scores", f, weights[:1], multiplier, bias, Out((2,), I32))


@pytest.mark.parametrize(("pictures", "width", "count"), [(1, 4, 1), (2, 9, 2), (7, 20, 3), (20, 33, 20), (20, 16, 9)])
def test_span(pictures, width, count):
    x, _ = features(pictures, width, count)
    packed = oracle.gram(x)
    directions, distances, scratch = (
        Out((count, (width + 1) // 2), U8),
        Out((pictures,), I32),
        Scratch(ternary.span_scratch(count)),
    )
    ternary.span_fit(x, packed, 1024, directions.array, distances.array, scratch.array)
    for out in (directions, distances, scratch):
        out.check()
    expected = oracle.span_fit(x, packed, 1024, count)
    equal(directions.array, expected[0])
    equal(distances.array, expected[1])
    new, _ = features(5, width, 99)
    for f in (*new, *x[:3]):
        assert ternary.span_distance(f, directions.array) == oracle.span_distance(f, expected[0])


def test_span_of_any_numbers():
    rng = np.random.default_rng(8)
    x = rng.choice(np.array([-128, 0, 127], I8), (9, 5))
    packed = rng.choice(np.array([-32768, 0, 32767], I16), 45)
    directions, distances = Out((6, 3), U8), Out((9,), I32)
    ternary.span_fit(x, packed, 1, directions.array, distances.array, Scratch(ternary.span_scratch(6)).array)
    expected = oracle.span_fit(x, packed, 1, 6, exact=False)
    equal(directions.array, expected[0])
    equal(distances.array, expected[1])


def test_span_distance_is_what_the_pictures_leave_unexplained():
    """In float64: the variance of a Gaussian process with this kernel and ridge."""
    x, _ = features(12, 96)
    directions, distances = Out((12, 48), U8), Out((12,), I32)
    scratch = Scratch(ternary.span_scratch(12)).array
    ternary.span_fit(x, oracle.gram(x), 1024, directions.array, distances.array, scratch)
    unit = x / (32 * np.sqrt(96))
    inverse = np.linalg.inv(unit @ unit.T + np.eye(12) / 16)
    assert np.abs(distances.array / 65536 - (1 / np.diag(inverse) - 1 / 16)).max() < 0.001
    for f in features(6, 96, 5)[0]:
        v = f / (32 * np.sqrt(96))
        expected = v @ v - (unit @ v) @ inverse @ (unit @ v)
        # Numbers of 4 bits put the product with each direction off by sqrt(1 / 12 / 4 / 96) = 0.015.
        assert abs(ternary.span_distance(f, directions.array) / 65536 - expected) < 0.04


def test_span_refuses():
    x, _ = features(6, 8)
    packed, scratch = oracle.gram(x), lambda size=0: Scratch(ternary.span_scratch(4) - size)
    for ridge in (0, 65537):
        refused("span_fit", x, packed, ridge, Out((4, 4), U8), Out((6,), I32), scratch())
    refused("span_fit", x, packed[1:], 1024, Out((4, 4), U8), Out((6,), I32), scratch())
    refused("span_fit", x, packed, 1024, Out((15,), U8), Out((6,), I32), scratch())
    refused("span_fit", x, packed, 1024, Out((7, 4), U8), Out((6,), I32), Scratch(ternary.span_scratch(7)))
    refused("span_fit", x, packed, 1024, Out((4, 4), U8), Out((6,), I32), scratch(16))
    with pytest.raises(ValueError, match="directions has 15 bytes, needs a multiple of 4"):
        ternary.span_distance(x[0], np.ones(15, U8))


def test_moments():
    rng = np.random.default_rng(4)
    for count, span in ((1, 5), (2, 3), (9, 2**16), (1024, 2**31 - 1)):
        x = rng.integers(-span, span, count).astype(I32)
        assert run("moments", x, Out((2,), I32)).tolist() == list(oracle.moments(x))
    refused("moments", np.zeros(1025, I32), Out((2,), I32))
    refused("moments", np.zeros(5, I32), Out((3,), I32))
