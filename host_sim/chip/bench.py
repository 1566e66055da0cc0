# SPDX-License-Identifier: MIT
"""The benchmarks of firmware/bench.py on the simulated ESP32-S3: modelled cycles of kernels and networks.

python -m host_sim.chip.bench [NETWORK] [--sram KB] [--docs]      (`just bench-s3`)

Each benchmark runs three times: as modelled, with free flash, and without the data cache's preload, whose
timing is assumed. Networks are planned as on the chip: into the internal memory that is free after boot, 64 KB of it
left to others, or into --sram KB. DeiT is planned for two cores and runs both parts one after another; timing.TwoCores
estimates the time on two cores.
"""

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host_sim.lx7.machine import Machine
from host_sim.lx7.timing import CLOCK_HZ, Timing, TwoCores
from host_sim.lx7_runner import AFTER_BOOT, Lx7Runner
from host_sim.setup.artefact import write_whole
from host_sim.setup.package import use_firmware
from host_sim.setup.shell import BUILD, ROOT, Failure, one_line_errors
from host_sim.tables import NUMBERS, aligned, markdown, write_between

DEIT = "deit3_small_patch16_224"
SHIPPED = "shipped_model"
MODELS = BUILD / "models"
PIECE = 100 * 1024
# Largest free block of each region of internal memory after the chip's start.
FREE = tuple(largest for _, largest in AFTER_BOOT)
PICTURE = ROOT / "docs" / "bench-s3.svg"
START, END = "<!-- bench-s3: written by `just bench-s3 --docs` -->", "<!-- /bench-s3 -->"
TIMINGS = {
    "modelled": Timing(),
    "free flash": Timing(flash_bytes_per_second=float("inf")),
    "no preload": Timing(preload=False),
}
# Targets: MAC/cycle of one core, or seconds at most.
TARGETS = {
    "gemm_inner": 15.0,
    "linear_qkv": 13.5,
    "linear_proj": 13.5,
    "linear_fc1": 13.5,
    "linear_fc2": 13.5,
    "attention_qk": 7.0,
    "attention_av": 9.0,
    DEIT: 1.25,
    SHIPPED: 0.010,
}
# Kernel functions of linear layers and of the attention products; the rest of an operation counts as a part of its own
# or as "calls".
LINEAR = ("pie_linear", "pie_first_slice", "pie_slice", "pie_last_slice", "pie_region")
PRODUCTS = ("pie_scores", "pie_values", "pie_transpose", "pie_gather", "pie_magnitude")
PARTS = (
    "products of linear layers",
    "drain of linear layers",
    "decoding",
    "calls and checks of linear layers",
    "attention products",
    "softmax",
    "GELU",
    "LayerNorm",
    "residual",
    "patches and the rest",
    "waiting for flash",
    "waiting for PSRAM",
)


@dataclass
class Run:
    """Cost of a benchmark under one timing, in cycles; external: those of them that wait for flash and PSRAM;
    activation_bytes: of a network, all memory but the weights'; inside: of its operations, without those that wait."""

    macs: int
    cycles: float
    external: float
    parts: dict[str, float] = field(default_factory=dict)
    activation_bytes: int | None = None
    inside: dict[str, float] = field(default_factory=dict)


@dataclass
class Row:
    """A row of the table; runs: by TIMINGS; cores: 1, or 2 for networks planned for both."""

    name: str
    cores: int
    runs: dict[str, Run]

    @property
    def flash(self) -> float:
        """Cycles of one core spent waiting for flash."""
        return self.runs["modelled"].cycles - self.runs["free flash"].cycles

    def seconds(self, name: str = "modelled", cores: int | None = None, bound: bool = False) -> float:
        """Seconds under a timing; on two cores at 1.6x (waits for external memory not divided) or at the 2x bound."""
        run = self.runs[name]
        if (cores or self.cores) == 1:
            return run.cycles / CLOCK_HZ
        two = TwoCores.of(run.cycles, run.external)
        return (two.bound if bound else two.separate) / CLOCK_HZ

    def rate(self, cycles: float) -> float | None:
        """Multiply-accumulates per cycle."""
        macs = self.runs["modelled"].macs
        return macs / cycles if macs else None

    def numbers(self) -> dict[str, Any]:
        """The row for JSON."""
        modelled, free = self.runs["modelled"], self.runs["free flash"]
        numbers = {
            "name": self.name,
            "macs": modelled.macs,
            "cycles": round(free.cycles),
            "flash_cycles": round(self.flash),
            "mac_per_cycle": self.rate(free.cycles),
            "mac_per_cycle_with_flash": self.rate(modelled.cycles),
            "mac_per_cycle_without_preload": self.rate(self.runs["no preload"].cycles),
            "cores": self.cores,
            "seconds": self.seconds(),
            "seconds_without_preload": self.seconds("no preload"),
            "seconds_one_core": self.seconds(cores=1),
        }
        if modelled.activation_bytes is not None:
            numbers["activation_bytes"] = modelled.activation_bytes
        if self.cores == 2:
            numbers["seconds_bound"] = self.seconds(bound=True)
            numbers["parts"] = {name: round(cycles) for name, cycles in modelled.parts.items()}
        return numbers


def firmware() -> tuple[Any, Any]:
    """The modules host_sim/ternary.py and firmware/bench.py."""
    use_firmware()
    import bench
    import ternary

    return ternary, bench


def spent(runner: Lx7Runner, function: Callable[[], Any]) -> tuple[float, float]:
    """Cycles of a call, and how many of them waited for external memory."""
    before = runner.machine.totals
    function()
    after = runner.machine.totals
    return after.cycles - before.cycles, after.external - before.external


def kernel_runs(runner: Lx7Runner, bench: Any) -> dict[str, Run]:
    """All kernels of firmware/bench.py on one runner."""
    from ftervit.modelfile import map_file

    kernels, runs = bench.Kernels(map_file(str(shipped()))), {}

    def measure(function: Callable[[], Any]) -> float:
        cycles, _ = spent(runner, function)
        return cycles

    macs, cycles = kernels.gemm_inner(measure)
    runs["gemm_inner"] = Run(macs, cycles, 0.0)
    gc.collect()
    for name, inputs, outputs in bench.LINEAR:
        function, macs = kernels.linear(inputs, outputs, bench.TOKENS)
        runs[name] = Run(macs, *spent(runner, function))
        del function
        gc.collect()
    for make in (kernels.attention, kernels.elementwise):
        for name, function, macs in make():
            runs[name] = Run(macs, *spent(runner, function))
            del function
        gc.collect()
    return runs


def by_function(machine: Machine) -> dict[tuple[str, str], tuple[float, float]]:
    """Cycles so far, and how many of them waited for external memory, by function and mnemonic."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for cost in machine.costs():
        where = machine.function_at(cost.pc)
        key = (where[0] if where else "", cost.instruction.mnemonic)
        cycles, external = found.get(key, (0.0, 0.0))
        waiting = cost.stalls["cache"] + cost.stalls["fetch"]
        found[key] = cycles + cost.cycles, external + waiting
    return found


def inside_of(runner: Lx7Runner) -> dict[str, float]:
    """Cycles of each operation that do not wait for flash or PSRAM, since runner.costs was cleared."""
    return {name: cost.cycles - cost.external for name, cost in runner.costs.items()}


def breakdown(runner: Lx7Runner, before: dict[tuple[str, str], tuple[float, float]]) -> dict[str, float]:
    """Cycles by PARTS since `before`, without waits for memory; runner.costs must have been cleared at that point."""
    parts = dict.fromkeys(PARTS, 0.0)
    inside = inside_of(runner)
    for (function, mnemonic), (cycles, external) in by_function(runner.machine).items():
        old = before.get((function, mnemonic), (0.0, 0.0))
        net = cycles - old[0] - (external - old[1])
        if function in LINEAR:
            product = mnemonic.startswith("ee.vsmulas") or mnemonic == "ee.vld.128.ip"
            parts["products of linear layers" if product else "drain of linear layers"] += net
        elif function == "pie_residual_add":
            parts["residual"] += net
        elif function == "pie_decode":
            parts["decoding"] += net
        elif function in PRODUCTS:
            parts["attention products"] += net
    # With residual_add: linear_add adds to the residual stream by the same kernel.
    together = ("linear", "convolution", "residual_add")
    linear = sum(cycles for name, cycles in inside.items() if name.startswith(together))
    parts["calls and checks of linear layers"] = linear - sum(parts[name] for name in (*PARTS[:3], "residual"))
    attention = inside.get("attention", 0.0) + inside.get("attention_columns", 0.0)
    parts["softmax"] = attention - parts["attention products"]
    for name, operation in (("GELU", "lookup"), ("LayerNorm", "layernorm")):
        parts[name] = inside.get(operation, 0.0)
    parts["patches and the rest"] = sum(inside.values()) - sum(parts.values())
    return parts


def network_run(timing: Timing, path: Path, sram: int | None, cores: int) -> Run:
    """A forward pass of a network on a new simulated chip."""
    ternary, bench = firmware()
    from ftervit import VisionTransformer
    from ftervit.plan import RESERVE

    limits: dict[str, Any] = {} if sram is None else {"sram": sram, "piece": PIECE}
    runner = ternary.use("lx7", timing=timing, **(limits or {"regions": FREE}))
    ternary.cores(cores)
    model = VisionTransformer.load(str(path), **limits)
    size = model.img_size * model.img_size * model.in_chans
    picture = ternary.heap(size, "B")
    picture[:] = bench.pattern(size, -128, 127)
    runner.costs.clear()
    before, old = by_function(runner.machine), runner.machine.totals
    model(picture)
    totals = runner.machine.totals
    external = totals.external - old.external
    if sram is None and max(runner.internal()) < RESERVE:
        raise Failure(f"{path}: a block of {max(runner.internal())} bytes is left to others, not of {RESERVE}")
    # Python's time between two operations is not included.
    return Run(
        bench.macs_of(model),
        totals.cycles - old.cycles,
        external,
        breakdown(runner, before),
        model.activation_bytes,
        inside_of(runner),
    )


def network_row(name: str, path: Path, sram: int | None, cores: int) -> Row:
    """A network's row."""
    runs = {}
    for label, timing in TIMINGS.items():
        print(f"{name}: {label} ...", file=sys.stderr, flush=True)
        runs[label] = network_run(timing, path, sram, cores)
    row = Row(name, cores, runs)
    parts = runs["modelled"].parts
    parts["waiting for flash"] = row.flash
    parts["waiting for PSRAM"] = runs["modelled"].external - row.flash
    return row


def kernel_rows() -> list[Row]:
    """The kernels' rows."""
    ternary, bench = firmware()
    found: dict[str, dict[str, Run]] = {}
    for label, timing in TIMINGS.items():
        print(f"kernels: {label} ...", file=sys.stderr, flush=True)
        runner = ternary.use("lx7", timing=timing)
        for name, run in kernel_runs(runner, bench).items():
            found.setdefault(name, {})[label] = run
        ternary.use("host")
        gc.collect()
    return [Row(name, 1, runs) for name, runs in found.items()]


def shipped() -> Path:
    """The shipped model's file."""
    return ROOT / "firmware" / "models" / "fashion_mnist.safetensors"


def plan_of(path: Path, sram: int | None, cores: int) -> str:
    """The plan of a network for `sram` bytes, or for what a chip has, as text."""
    ternary, _ = firmware()
    from ftervit.modelfile import ModelFile
    from ftervit.plan import Plan

    ternary.use("host")
    ternary.cores(cores)
    sizes = ModelFile(str(path)).architecture
    try:
        return str(Plan(sizes, free=FREE) if sram is None else Plan(sizes, sram, PIECE))
    finally:
        ternary.cores(1)


def number(value: float | None, digits: int = 2) -> str:
    """A figure as text; empty for None."""
    return "" if value is None else f"{value:,.{digits}f}"


HEAD = (
    "name",
    "MACs",
    "cycles",
    "flash cycles",
    "MAC/cycle",
    "with flash",
    "without preload",
    "target",
    "cores",
    "seconds",
)


def cells(row: Row) -> list[str]:
    """A row as text."""
    n = row.numbers()
    target, unit = TARGETS.get(row.name), " s" if row.cores == 2 or row.name == SHIPPED else ""
    aim = "" if target is None else f"{'<=' if unit else '>='} {target:g}{unit}"
    rates = (number(n[key]) for key in ("mac_per_cycle", "mac_per_cycle_with_flash", "mac_per_cycle_without_preload"))
    counts = (f"{n['macs']:,}" if n["macs"] else "", f"{n['cycles']:,}", f"{n['flash_cycles']:,}")
    return [row.name, *counts, *rates, aim, str(row.cores), number(n["seconds"], 5 if row.cores == 1 else 3)]


def network_lines(rows: list[Row]) -> list[str]:
    """Lines below the table: one core, bounds, without preload."""
    lines = []
    for row in rows:
        if row.cores == 2:
            one, bound = row.seconds(cores=1), row.seconds(bound=True)
            slow, slow_two = row.seconds("no preload", 1), row.seconds("no preload")
            lines.append(
                f"{row.name}: one core {one:.3f} s; two cores at 1.6x, waiting for external memory undivided, "
                f"{row.seconds():.3f} s, at the 2x bound {bound:.3f} s; without preload {slow:.3f} s on one core, "
                f"{slow_two:.3f} s on two"
            )
    return lines


def part_lines(row: Row) -> list[list[str]]:
    """A network's cycles on one core by part, and the bound of 16 products a cycle."""
    parts, run = row.runs["modelled"].parts, row.runs["modelled"]
    lines = [[name, f"{parts[name]:,.0f}", f"{100 * parts[name] / run.cycles:.1f} %"] for name in PARTS]
    lines.append(["all", f"{run.cycles:,.0f}", "100.0 %"])
    lines.append(["bound: 16 products a cycle", f"{run.macs / 16:,.0f}", f"{100 * run.macs / 16 / run.cycles:.1f} %"])
    return lines


def picture(row: Row, path: Path) -> None:
    """Draw the parts as a bar."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "bench-s3"
    run = row.runs["modelled"]
    figure, axes = pyplot.subplots(figsize=(10, 3.2), layout="constrained")
    left, colours = 0.0, pyplot.get_cmap("tab20").colors
    for i, name in enumerate(PARTS):
        width = run.parts[name] / 1e6
        axes.barh(["modelled"], [width], left=left, label=f"{name} {width:.1f}", color=colours[i])
        left += width
    axes.barh(["bound"], [run.macs / 16e6], color="0.6", label=f"16 products a cycle {run.macs / 16e6:.1f}")
    axes.set_xlabel("million cycles of one core, modelled")
    axes.set_title(f"{row.name}, a picture on one ESP32-S3 core")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=4, fontsize="small", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def document(rows: list[Row]) -> str:
    """Table, breakdown and picture for docs/numbers.md."""
    main = next(row for row in rows if row.name == DEIT)
    return "\n\n".join(
        (
            markdown(HEAD, map(cells, rows)),
            "  \n".join(network_lines(rows)),
            f"![Cycles by part]({PICTURE.name})",
            markdown((f"{main.name} on one core", "cycles", "share"), part_lines(main)),
        )
    )


def network_path(name: str) -> Path:
    """The file of a network with random weights."""
    path = MODELS / f"{name}.safetensors"
    if not path.exists():
        print(f"exporting networks to {MODELS.relative_to(ROOT)}/ ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "trainer", "sizes", "--keep", MODELS], check=True, cwd=ROOT)
    if not path.exists():
        found = ", ".join(sorted(path.stem for path in MODELS.glob("*.safetensors")))
        raise Failure(f"{name}: no such network in {MODELS.relative_to(ROOT)}/, which has {found}")
    return path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="just bench-s3",
        description="Kernels and networks on a simulated ESP32-S3 at 240 MHz: a table, and build/bench-s3.json. All "
        "cycles are modelled, none is measured.",
    )
    parser.add_argument(
        "network",
        nargs="?",
        help=f"only {SHIPPED} or this one of build/models/ (default: the kernels, {DEIT} and {SHIPPED})",
    )
    parser.add_argument(
        "--sram",
        type=int,
        metavar="KB",
        help="SRAM to plan for (default: what is free after the chip's start, a block of 64 KB left to others)",
    )
    parser.add_argument("--docs", action="store_true", help="write tables and picture into docs/")
    return parser


@one_line_errors
def main() -> None:
    """Command line."""
    arguments = parser().parse_args()
    sram = None if arguments.sram is None else arguments.sram * 1024
    if arguments.network and arguments.docs:
        raise Failure("--docs needs all rows: name no network")
    path = shipped() if arguments.network == SHIPPED else network_path(arguments.network or DEIT)
    print(plan_of(path, sram, 2), end="\n\n")
    if arguments.network:
        rows = [network_row(arguments.network, path, sram, 2)]
        output = BUILD / f"bench-s3-{arguments.network}.json"
    else:
        rows = [*kernel_rows(), network_row(DEIT, path, sram, 2), network_row(SHIPPED, shipped(), None, 1)]
        output = BUILD / "bench-s3.json"
    write_whole(output, json.dumps([row.numbers() for row in rows], indent=1) + "\n")
    print(aligned([HEAD, *map(cells, rows)]), *network_lines(rows), sep="\n")
    for row in rows:
        if row.cores == 2:
            print("", aligned([[row.name, "cycles", "share"], *part_lines(row)]), sep="\n")
            picture(row, PICTURE if arguments.docs else BUILD / f"bench-s3-{row.name}.svg")
    print(f"\nall cycles are modelled at 240 MHz; written to {output.relative_to(ROOT)}")
    if arguments.docs:
        write_between(NUMBERS, START, END, document(rows))


if __name__ == "__main__":
    main()
