# SPDX-License-Identifier: MIT
"""How the cost of a network grows with tokens, width and depth: executed on the simulated ESP32-S3 and estimated.

python -m host_sim.chip.curve [--fit] [--docs]      (`just cost-curve`)

Networks have random weights and 16 x 16 patches. --fit executes networks of random sizes first and fits the
coefficients of firmware/ftervit/estimate.py to them; the rows of the table, other networks, show the estimate's error.
"""

import argparse
import gc
import json
import math
import random
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from host_sim.chip import bench
from host_sim.chip.bench import FREE, TIMINGS, Run, firmware, network_run
from host_sim.random_models import assembled
from host_sim.setup.artefact import write_whole
from host_sim.setup.shell import BUILD, ROOT, one_line_errors
from host_sim.tables import NUMBERS, aligned, markdown, write_between

ESTIMATE = ROOT / "firmware" / "ftervit" / "estimate.py"
TABLE_START, TABLE_END = "# Written by `just cost-curve --fit`.\nTABLE = {\n", "}\n"
MODELS = ROOT / "firmware" / "models"
PICTURE = ROOT / "docs" / "cost-curve.svg"
START, END = "<!-- cost-curve: written by `just cost-curve --docs` -->", "<!-- /cost-curve -->"
OUTPUT = BUILD / "cost-curve.json"
SAMPLES, SEED = 120, 5  # networks that the coefficients are fitted to, each for one core and for two
# Side of the grid of patches, width, depth. The middle of each sweep is the same network.
MIDDLE = (8, 192, 4)
SWEEPS = {
    "tokens": [(side, *MIDDLE[1:]) for side in (4, 7, 8, 10, 12, 14, 18, 21, 24)],
    "width": [(MIDDLE[0], width, MIDDLE[2]) for width in (96, 128, 192, 256, 384, 576, 768)],
    "depth": [(*MIDDLE[:2], depth) for depth in (1, 2, 4, 8, 12, 16, 24)],
}
# Executing these takes longer than a minute each.
BEYOND = [(14, 384, 12), (24, 384, 12), (14, 768, 12), (24, 768, 24)]
# Part of the estimate -> operations whose cycles it stands for.
OPERATIONS = {
    "linear": ("linear", "linear_add", "linear_columns"),
    "convolution": ("convolution",),
    "attention": ("attention", "attention_columns"),
    "layernorm": ("layernorm",),
    "lookup": ("lookup",),
    "residual": ("residual_add", "residual_start"),
    "logits": ("linear_logits",),
}


def network(
    side: int, width: int, depth: int, heads: int | None = None, ratio: int = 4, patch: int = 16, classes: int = 1000
) -> dict[str, Any]:
    """Sizes of a plain vision transformer of side * side + 1 tokens (SPEC 10.4)."""
    return {
        "name": "curve",
        "img_size": side * patch,
        "in_chans": 3,
        "stem": [],
        "patch_size": patch,
        "patch_stride": patch,
        "patch_padding": 0,
        "num_classes": classes,
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads or max(1, width // 64),
        "mlp_hidden": ratio * width,
        "pool": "token",
    }


def with_stem(side: int, width: int, depth: int, stem: list[list[int]], patch: list[int]) -> dict[str, Any]:
    """Sizes of a network with a convolutional stem (timm's order: channels, kernel, stride, padding)."""
    sizes = network(1, width, depth, heads=width // 32, ratio=3, patch=1, classes=10)
    sizes |= {"img_size": side, "stem": stem, "patch_size": patch[0], "patch_stride": patch[1]}
    return sizes | {"patch_padding": patch[2]}


def samples() -> list[dict[str, Any]]:
    """Networks to fit to, the same each time: many small ones, few large ones, some with stems."""
    chance = random.Random(SEED)
    found: list[dict[str, Any]] = []
    while len(found) < SAMPLES:
        side, width = chance.choice((4, 6, 7, 9, 11, 13, 15, 17, 19, 22, 24)), 32 * chance.randint(3, 24)
        heads = width // chance.choice((32, 64))
        most = 160_000 if len(found) % 4 == 0 else 40_000  # values of a layer
        if side * side * width > most or width % heads:
            continue
        ratio, patch = chance.choice((3, 4)), chance.choice((8, 16))
        found.append(
            network(side, width, chance.choice((1, 1, 2)), heads, ratio, patch, chance.choice((10, 200, 1000)))
        )
    found += [network(side, width, 1) for side in (20, 22, 23, 24) for width in (128, 256)]  # heads that fill the cache
    for side in (32, 64):
        for first in (32, 48):
            for count in (2, 3):
                stem = [[first * (i + 1), 3, 2 if i else side // 32, 1] for i in range(count)]
                found.append(with_stem(side, 128, 2, stem, [3, 1, 1]))
    for side in (28, 40, 48):
        for width in (96, 160, 192):
            for strides in ((2, 1), (2, 2, 1)):
                first = chance.choice((16, 32, 64))
                stem = [[first + 16 * chance.randint(0, 3) * i, 3, stride, 1] for i, stride in enumerate(strides)]
                more = {"in_chans": chance.choice((1, 3))}
                found.append(with_stem(side, width, chance.randint(1, 4), stem, [3, 2, 1]) | more)
    return found


def execute(sizes: dict[str, Any], cores: int, folder: Path) -> Run:
    """Run a network of these sizes with random weights, planned for `cores`, one core after the other."""
    path = folder / "curve.safetensors"
    path.write_bytes(assembled(random.Random(1), sizes))
    ternary, _ = firmware()
    try:
        return network_run(TIMINGS["modelled"], path, None, cores)
    finally:
        ternary.use("host")
        ternary.cores(1)
        gc.collect()


def planned(sizes: dict[str, Any], cores: int) -> Any:
    """The plan of a network on the chip."""
    ternary, _ = firmware()
    from ftervit.plan import Plan

    ternary.use("host")
    ternary.cores(cores)
    try:
        return Plan(sizes, free=FREE)
    finally:
        ternary.cores(1)


def fitted(counts: np.ndarray, cycles: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Coefficients >= 0 with the least squares of errors relative to `whole`: columns that would be negative are left
    out, one after the other."""
    used = [column for column in range(counts.shape[1]) if counts[:, column].any()]
    while True:
        found, *_ = np.linalg.lstsq(counts[:, used] / whole[:, None], cycles / whole, rcond=None)
        if found.min() >= 0:
            result = np.zeros(counts.shape[1])
            result[used] = found
            return result
        used.pop(int((found * counts[:, used].mean(0)).argmin()))


def fit(folder: Path) -> dict[str, list[float]]:
    """The table of firmware/ftervit/estimate.py, from executed networks."""
    firmware()
    from ftervit import estimate

    runs, counts = [], []
    networks = samples()
    for number, sizes in enumerate(networks):
        if sys.stderr.isatty():
            print(f"\rexecuting network {number + 1} of {len(networks)} ", end="", file=sys.stderr, flush=True)
        for cores in (1, 2):
            runs.append(execute(sizes, cores, folder))
            counts.append(estimate.counts(planned(sizes, cores)))
    table, whole = {}, np.array([run.cycles for run in runs])
    for part, numbers in counts[0].items():
        operations = OPERATIONS.get(part)
        cycles = np.array(
            [sum(run.inside.get(name, 0.0) for name in operations) if operations else run.external for run in runs]
        )
        of_part = cycles if operations else whole
        found = fitted(np.array([count[part] for count in counts], float), cycles, of_part)
        table[part] = [float(f"{value:.4g}") for value in found]
        assert len(numbers) == len(found)
    return table


def write_table(table: dict[str, list[float]], path: Path = ESTIMATE) -> None:
    """Put the coefficients into estimate.py."""
    lines = []
    for part, values in table.items():
        numbers = [f"{value:g}" for value in values]
        line = f'    "{part}": ({", ".join(numbers)}),\n'
        if len(line) > 120:  # as ruff lays it out
            line = f'    "{part}": (\n' + "".join(f"        {number},\n" for number in numbers) + "    ),\n"
        lines.append(line)
    before, _, rest = path.read_text().partition(TABLE_START)
    _, _, after = rest.partition(TABLE_END)
    write_whole(path, before + TABLE_START + "".join(lines) + TABLE_END + after)


@dataclass
class Row:
    """A network of the table; executed: None where only the estimate was made."""

    sweep: str
    size: tuple[int, int, int]
    cores: int
    plan: Any
    executed: Run | None

    def estimated(self) -> float:
        """Estimated seconds."""
        from ftervit import estimate

        return estimate.seconds(self.plan)

    def seconds(self) -> float | None:
        """Modelled seconds by executed machine code, on two cores at 1.6x."""
        if self.executed is None:
            return None
        return bench.Row(self.sweep, self.cores, {"modelled": self.executed}).seconds()

    def error(self) -> float | None:
        """Of the estimate, relative."""
        seconds = self.seconds()
        return None if seconds is None else self.estimated() / seconds - 1

    def numbers(self) -> dict[str, Any]:
        """For JSON."""
        side, width, depth = self.size
        return {
            "sweep": self.sweep,
            "tokens": side * side + 1,
            "width": width,
            "depth": depth,
            "cores": self.cores,
            "cycles": None if self.executed is None else round(self.executed.cycles),
            "mac_per_cycle": None if self.executed is None else self.executed.macs / self.executed.cycles,
            "sram_bytes": sum(self.plan.pieces),
            "psram_bytes": self.plan.external_bytes(),
            "seconds": self.seconds(),
            "estimated_seconds": self.estimated(),
            "estimate_error": self.error(),
        }


def rows(
    folder: Path, sweeps: dict[str, list[tuple[int, int, int]]], beyond: Sequence[tuple[int, int, int]]
) -> list[Row]:
    """Execute the sweeps, and plan what is beyond."""
    known: dict[tuple, Row] = {}
    found = []
    for sweep, sizes in {**sweeps, "beyond": list(beyond)}.items():
        for size in sizes:
            for cores in (1, 2):
                key = (size, cores)
                if key not in known:
                    if sys.stderr.isatty():
                        print(f"\r{sweep}: {size}, {cores} cores  ", end="", file=sys.stderr, flush=True)
                    of = network(*size)
                    ran = None if sweep == "beyond" else execute(of, cores, folder)
                    known[key] = Row(sweep, size, cores, planned(of, cores), ran)
                found.append(Row(sweep, size, cores, known[key].plan, known[key].executed))
    return found


def shipped(folder: Path, paths: Iterable[Path]) -> list[Row]:
    """The networks of these model files, with random weights."""
    firmware()
    from ftervit.modelfile import ModelFile

    found = []
    for path in paths:
        sizes = ModelFile(str(path)).architecture
        for cores in (1, 2):
            plan = planned(sizes, cores)
            size = (math.isqrt(plan.tokens - 1), plan.width, sizes["depth"])
            found.append(Row(path.stem, size, cores, plan, execute(sizes, cores, folder)))
    return found


HEAD = ("tokens", "width", "depth", "cores", "cycles", "MAC/cycle", "SRAM", "PSRAM", "seconds", "estimate", "error")


def cells(row: Row) -> list[str]:
    """A row as text."""
    n = row.numbers()

    def number(key: str, text: str) -> str:
        return "" if n[key] is None else format(n[key], text)

    return [
        *(str(n[key]) for key in ("tokens", "width", "depth", "cores")),
        number("cycles", ","),
        number("mac_per_cycle", ".2f"),
        number("sram_bytes", ","),
        number("psram_bytes", ","),
        number("seconds", ".4f"),
        number("estimated_seconds", ".4f"),
        number("estimate_error", "+.1%"),
    ]


def error_line(found: Iterable[Row]) -> str:
    """Mean and largest error of the estimate."""
    errors = [abs(row.error() or 0.0) for row in found if row.executed]
    within = sum(error <= 0.05 for error in errors)
    return (
        f"The estimate differs from executed machine code by {100 * sum(errors) / len(errors):.1f} % on average and by "
        f"{100 * max(errors):.1f} % at most; {within} of {len(errors)} are within 5 %."
    )


def picture(found: list[Row], path: Path) -> None:
    """Draw seconds over tokens, width and depth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "cost-curve"
    figure, panels = pyplot.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for axes, sweep in zip(panels, SWEEPS, strict=True):
        for cores, colour in ((1, "#1b6e5a"), (2, "#b86a14")):
            points = [row.numbers() for row in found if (row.sweep, row.cores) == (sweep, cores)]
            x = [point[sweep] for point in points]
            label = f"{cores} core{'s' if cores > 1 else ''}"
            axes.plot(x, [1000 * p["seconds"] for p in points], "o-", color=colour, label=label)
            axes.plot(x, [1000 * p["estimated_seconds"] for p in points], "x", color=colour, label="estimate")
        axes.set(xlabel=sweep, xscale="log", yscale="log")
        ticks = sorted({point[sweep] for point in points})
        axes.set_xticks(ticks, [str(tick) for tick in ticks], rotation=60, fontsize="small")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("ms for a picture, modelled")
    panels[0].legend(frameon=False, fontsize="small")
    side, width, depth = MIDDLE
    figure.suptitle(f"ESP32-S3 at 240 MHz, around {side * side + 1} tokens, width {width}, depth {depth}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def document(found: list[Row], models: list[Row]) -> str:
    """Tables and picture for docs/numbers.md."""
    return "\n\n".join(
        (
            f"![Cost by tokens, width and depth]({PICTURE.name})",
            markdown(HEAD, map(cells, found)),
            error_line(found),
            markdown(("shipped model", *HEAD), ([row.sweep, *cells(row)] for row in models)),
            error_line(models),
        )
    )


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="just cost-curve",
        description="Cost of networks on a simulated ESP32-S3 by tokens, width and depth: a table, a picture and "
        "build/cost-curve.json. All of it is modelled, none is measured. Takes about five minutes.",
    )
    parser.add_argument("--fit", action="store_true", help="fit the estimate's coefficients to executed networks first")
    parser.add_argument("--docs", action="store_true", help="write table and picture into docs/")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.fit:
            table = fit(Path(name))
            write_table(table)
            from ftervit import estimate

            estimate.TABLE = {part: tuple(values) for part, values in table.items()}
        found, models = rows(Path(name), SWEEPS, BEYOND), shipped(Path(name), sorted(MODELS.glob("*.safetensors")))
    write_whole(OUTPUT, json.dumps([row.numbers() for row in found + models], indent=1) + "\n")
    print("\n" + aligned([list(HEAD), *map(cells, found)]), error_line(found), sep="\n")
    lines = [["model", *HEAD], *([row.sweep, *cells(row)] for row in models)]
    print("\n" + aligned(lines), error_line(models), sep="\n")
    target = PICTURE if arguments.docs else OUTPUT.with_suffix(".svg")
    picture(found, target)
    print(f"modelled at 240 MHz; written to {OUTPUT.relative_to(ROOT)} and {target.relative_to(ROOT)}")
    if arguments.docs:
        write_between(NUMBERS, START, END, document(found, models))


if __name__ == "__main__":
    sys.exit(main())
