# SPDX-License-Identifier: MIT
"""The report's pictures as SVG texts that stand in a page: no fonts, no addresses, the page's own text colour."""

import io
import re
from collections.abc import Callable
from itertools import count
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure

from trainer.report.measure import Latent, LayerTrits, Range
from trainer.report.run import Log

INK = "#123457"  # stands for the page's text colour until the SVG is written
MINUS, ZERO, PLUS, FULL = "#d9822b", "#8a94a3", "#3a84d6", "#b04fb0"
RED = "#d6453d"
PHASES = {"teacher": ZERO, "control": MINUS, "student": PLUS, "recovery": "#2e9e5b"}
WIDTH = 7.0  # inches
BLUES = LinearSegmentedColormap.from_list("counts", ["#eef3f9", "#8fb8e3", "#2a6fbd", "#12305c"])
STYLE = {
    "svg.fonttype": "path",
    "svg.hashsalt": "ftervit",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
}
_numbers = count()


def styled(draw: Callable[..., Figure]) -> Callable[..., str]:
    """A drawing function whose figure comes back as an SVG text."""

    def drawn(*arguments: Any, **options: Any) -> str:
        with matplotlib.rc_context(STYLE):
            return svg(draw(*arguments, **options))

    drawn.__name__, drawn.__doc__ = draw.__name__, draw.__doc__
    return drawn


def new_figure(height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of the page's width and its axes, [rows, columns]."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(squeeze=False, **options)


def svg(figure: Figure) -> str:
    """The SVG element of a figure; its names are its own, so that several can stand in one page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    opening, rest = text.split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    prefix = f"f{next(_numbers)}-"
    rest = re.sub(r'\bid="', f'id="{prefix}', rest)
    rest = rest.replace('href="#', f'href="#{prefix}').replace("url(#", f"url(#{prefix}")
    return f"{opening}>{rest}".replace(INK, "currentColor").strip()


@styled
def learning_curves(logs: dict[str, Log], ternary_after: int) -> Figure:
    """Loss, validation top-1 and learning rate over epochs; recovery follows the student.

    ternary_after: epochs of the student in full precision.
    """
    figure, axes = new_figure(6.6, nrows=3, sharex=True)
    for name, rows in logs.items():
        start = len(logs.get("student", [])) if name == "recovery" else 0
        epochs = [start + row["epoch"] for row in rows]
        marker = "o" if len(rows) < 30 else None
        keys = ("loss", "validation_top1", "learning_rate")
        for axis, key in zip(axes[:, 0], keys, strict=True):
            values = [row[key] for row in rows]
            axis.plot(epochs, values, color=PHASES[name], label=name, marker=marker, markersize=3, linewidth=1.4)
    labels = ("loss", "validation top-1 in %", "learning rate")
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label)
        axis.grid()
        if ternary_after and "student" in logs:
            axis.axvline(ternary_after + 0.5, color=PLUS, linewidth=0.9, linestyle=":")
    axes[2, 0].set_yscale("log")
    axes[2, 0].set_xlabel("epoch")
    axes[2, 0].xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def named_rows(axis: Axes, names: list[str]) -> None:
    """Names down the left side, the first on top."""
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)


@styled
def trit_shares(layers: list[LayerTrits]) -> Figure:
    """Stacked bars: -1, 0, +1 and what is not ternary, in each layer."""
    figure, axes = new_figure(0.9 + 0.17 * len(layers))
    axis, shares = axes[0, 0], 100 * np.array([layer.shares for layer in layers])
    shares = np.column_stack([shares, 100 - shares.sum(1)])
    left = np.zeros(len(layers))
    kinds = (("\N{MINUS SIGN}1", MINUS), ("0", ZERO), ("+1", PLUS), ("full precision", FULL))
    for part, (label, colour) in zip(shares.T, kinds, strict=True):
        if label != "full precision" or part.max() > 1e-6:
            axis.barh(range(len(layers)), part, left=left, color=colour, label=label, height=0.8)
        left += part
    for row, layer in enumerate(layers):
        if any(layer.counts):
            middle = shares[row, 0] + shares[row, 1] / 2
            axis.text(middle, row, f"{shares[row, 1]:.0f}", ha="center", va="center", fontsize=6, color="white")
    named_rows(axis, [layer.name for layer in layers])
    axis.set_xlim(0, 100)
    axis.set_xlabel("% of the weights")
    figure.legend(loc="outside upper center", ncols=4)
    return figure


@styled
def histograms(latents: list[Latent]) -> Figure:
    """For each layer: latent weights coloured by the trit they become, with the thresholds; and the trits."""
    figure, axes = new_figure(1.45 * len(latents), nrows=len(latents), ncols=2, width_ratios=(3, 1))
    kinds = ((-1, MINUS), (0, ZERO), (1, PLUS))
    for (left, right), layer in zip(axes, latents, strict=True):
        bound = max(1.5, min(4.0, float(np.quantile(np.abs(layer.weights), 0.998))))
        parts = [np.clip(layer.weights[layer.trits == value], -bound, bound) for value, _ in kinds]
        bins = np.linspace(-bound, bound, 81 if len(layer.weights) > 2000 else 33)
        left.hist(parts, bins, stacked=True, color=[colour for _, colour in kinds])
        if len(layer.thresholds):
            for side in (-1, 1):
                left.axvline(side * layer.thresholds.mean(), color=INK, linewidth=0.9, linestyle="--")
                left.axvspan(side * layer.thresholds.min(), side * layer.thresholds.max(), color=INK, alpha=0.1, lw=0)
        left.set_title(f"{layer.name}, {len(layer.weights):,} weights", loc="left")
        left.set_yticks([])
        shares = [100 * (layer.trits == value).mean() for value, _ in kinds]
        bars = right.bar(range(3), shares, color=[colour for _, colour in kinds])
        right.bar_label(bars, [f"{share:.0f} %" for share in shares], fontsize=7, color=INK)
        right.set_xticks(range(3), ["\N{MINUS SIGN}1", "0", "+1"])
        right.set_yticks([])
        right.set_ylim(0, 1.25 * max(shares))
    axes[-1, 0].set_xlabel("latent weight / scale of its channel")
    axes[-1, 1].set_xlabel("trit")
    return figure


@styled
def activation_ranges(ranges: list[Range]) -> Figure:
    """For each activation: thin line from smallest to largest, bar from 0.1 % to 99.9 %, in units of int8's range."""
    figure, axes = new_figure(1.0 + 0.155 * len(ranges))
    axis, reach = axes[0, 0], 2.0
    for row, entry in enumerate(ranges):
        unit = 2.0**entry.frac / 128
        low, high = (float(np.clip(value * unit, -reach, reach)) for value in (entry.low, entry.high))
        bar = np.clip(np.array([entry.quantile_low, entry.quantile_high]) * unit, -reach, reach)
        colour = RED if entry.saturated > 0.001 else PLUS
        axis.plot([low, high], [row, row], color=colour, linewidth=0.8, solid_capstyle="butt")
        axis.barh(row, bar[1] - bar[0], left=bar[0], height=0.6, color=colour)
        text = "0" if entry.saturated == 0 else f"{100 * entry.saturated:.2g}"
        axis.text(1.02, row, text, transform=axis.get_yaxis_transform(), fontsize=6.5, va="center", clip_on=False)
    for limit in (-1, 127 / 128):
        axis.axvline(limit, color=INK, linewidth=0.9, linestyle="--")
    named_rows(axis, [f"{entry.name}  2^{-entry.frac}" for entry in ranges])
    axis.text(1.02, -1.1, "% clipped", transform=axis.get_yaxis_transform(), fontsize=6.5, va="bottom", clip_on=False)
    axis.set_xlim(-reach, reach)
    axis.set_xlabel("value / (128 steps of the layer's scale)")
    axis.grid(axis="x")
    return figure


def plain(label: str, longest: int = 18) -> str:
    """A label as matplotlib shows it letter for letter, not too long."""
    short = label if len(label) <= longest else label[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return short.replace("$", r"\$")


@styled
def confusion(matrix: np.ndarray, labels: list[str]) -> Figure:
    """Counts [class][taken for], each row coloured by its shares."""
    classes = len(labels)
    figure, axes = new_figure(1.6 + 0.5 * min(classes, 10) + 0.24 * max(classes - 10, 0))
    axis = axes[0, 0]
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap=BLUES, norm=PowerNorm(0.5, 0, 1), aspect="auto")
    size = 8 if classes <= 12 else 5
    for row, column in np.ndindex(matrix.shape):
        if matrix[row, column]:
            colour = "#ffffff" if shares[row, column] > 0.25 else "#101010"
            axis.text(column, row, matrix[row, column], ha="center", va="center", fontsize=size, color=colour)
    names = [plain(label) for label in labels]
    axis.set_xticks(range(classes), names, rotation=50, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(range(classes), names, fontsize=8)
    axis.set_xlabel("taken for")
    axis.set_ylabel("class")
    return figure


def shown(pixels: np.ndarray) -> np.ndarray:
    """uint8 [height, width, channels] as three channels."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def heat(axis: Axes, pixels: np.ndarray, weights: np.ndarray | None) -> None:
    """A picture, under a map [rows, columns] if there is one: the smallest value dark, the largest bright."""
    height, width = pixels.shape[:2]
    axis.set_axis_off()
    grey = shown(pixels).mean(2) if weights is not None else shown(pixels)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    if weights is not None:
        axis.imshow(weights, cmap="inferno", alpha=0.65, extent=(0, width, height, 0), interpolation="bilinear")
        axis.set(xlim=(0, width), ylim=(height, 0))


@styled
def attention(pictures: np.ndarray, names: list[str], maps: dict[str, np.ndarray]) -> Figure:
    """A column for each picture: itself, then every map over it. maps: [count, rows, columns] by title."""
    figure, axes = new_figure(1.25 * (1 + len(maps)) + 0.2, nrows=1 + len(maps), ncols=len(pictures))
    for column, pixels in enumerate(pictures):
        heat(axes[0, column], pixels, None)
        axes[0, column].set_title(plain(names[column]), fontsize=7)
        for row, weights in enumerate(maps.values(), 1):
            heat(axes[row, column], pixels, weights[column])
    for row, title in enumerate(("picture", *maps)):
        axes[row, 0].text(
            -0.08, 0.5, title, rotation=90, ha="right", va="center", transform=axes[row, 0].transAxes, fontsize=7.5
        )
    return figure
