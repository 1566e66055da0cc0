# SPDX-License-Identifier: MIT
"""Profile of a run: cycles by function and by instruction, as tables and as a picture."""

from dataclasses import dataclass, field
from pathlib import Path

from host_sim.lx7.machine import MEMORIES, STALLS, Cost, Machine
from host_sim.lx7.timing import CLOCK_HZ, TwoCores
from host_sim.tables import aligned

NO_FUNCTION = "(no function)"


@dataclass
class FunctionProfile:
    """Cost of one function, without the functions that it calls; cycles are modelled."""

    name: str
    calls: int = 0
    instructions: int = 0
    macs: int = 0
    stalls: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STALLS, 0.0))
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MEMORIES, 0))

    @property
    def cycles(self) -> float:
        """Instructions and stalls."""
        return self.instructions + sum(self.stalls.values())

    def add(self, cost: Cost, is_entry: bool) -> None:
        """Add an instruction of the function; is_entry: it is the first one."""
        self.calls += cost.count if is_entry else 0
        self.instructions += cost.count
        self.macs += cost.macs
        for cause, cycles in cost.stalls.items():
            self.stalls[cause] += cycles
        for memory, count in cost.bytes.items():
            self.bytes[memory] += count


def by_function(machine: Machine) -> list[FunctionProfile]:
    """Profiles of all functions that ran, the costliest first."""
    profiles: dict[str, FunctionProfile] = {}
    for cost in machine.costs():
        name, offset = machine.function_at(cost.pc) or (NO_FUNCTION, None)
        profiles.setdefault(name, FunctionProfile(name)).add(cost, offset == 0)
    return sorted(profiles.values(), key=lambda profile: -profile.cycles)


def function_table(profiles: list[FunctionProfile]) -> str:
    """A line for each function; causes and memories that are zero everywhere have no column."""
    causes = [cause for cause in STALLS if any(p.stalls[cause] for p in profiles)]
    memories = [memory for memory in MEMORIES if any(p.bytes[memory] for p in profiles)]
    total = sum(p.cycles for p in profiles) or 1
    stalls = [f"{cause} stall" for cause in causes]
    moved = [f"{memory} bytes" for memory in memories]
    rows = [["function", "calls", "instructions", "cycles", "share", *stalls, "MAC/cycle", *moved]]
    for p in profiles:
        rate = f"{p.macs / p.cycles:.2f}" if p.macs else "-"
        row = [p.name, f"{p.calls:,}", f"{p.instructions:,}", f"{p.cycles:,.0f}", f"{100 * p.cycles / total:.1f} %"]
        row += [f"{p.stalls[cause]:,.0f}" for cause in causes]
        rows.append([*row, rate, *(f"{p.bytes[memory]:,}" for memory in memories)])
    return aligned(rows)


def summary(machine: Machine) -> str:
    """Totals of the run, and instructions whose effect was not checked on a chip."""
    totals = machine.totals
    lines = [
        f"{totals.instructions:,} instructions, {totals.cycles:,.0f} cycles modelled "
        f"({1000 * totals.cycles / CLOCK_HZ:,.3f} ms at 240 MHz)"
        + (f", {totals.macs / totals.cycles:.2f} MAC/cycle" if totals.macs else "")
    ]
    two = TwoCores.of(totals.cycles, totals.external)
    lines.append(
        f"split evenly over two cores: {two.separate:,.0f} cycles with data in separate SRAM regions, "
        f"{two.shared:,.0f} in one SRAM bank; {two.bound:,.0f} is the bound"
    )
    if preloaded := sum(totals.lines_preloaded.values()):
        lines.append(f"preloaded into the data cache: {preloaded:,} of {sum(totals.lines_read.values()):,} lines read")
    if assumed := machine.assumed():
        names = ", ".join(f"{name} {count:,}" for name, count in sorted(assumed.items(), key=lambda item: -item[1]))
        lines.append(f"effect not checked on a chip: {sum(assumed.values()):,} executions ({names})")
    return "\n".join(lines)


def listing(machine: Machine, function: str) -> str:
    """A function's executed instructions with executions, cycles and stalls."""
    rows = [["instruction", "executed", "cycles", "stalls", "source"]]
    for cost in machine.costs():
        where = machine.function_at(cost.pc)
        if where and where[0] == function:
            causes = ", ".join(f"{cause} {cycles:,.0f}" for cause, cycles in cost.stalls.items() if cycles)
            line = machine.line_at(cost.pc)
            _, text = machine.instruction_at(cost.pc)
            source = f"{Path(line[0]).name}:{line[1]}" if line else ""
            rows.append([f"{cost.pc:#010x}  {text}", f"{cost.count:,}", f"{cost.cycles:,.0f}", causes, source])
    return aligned(rows)


def picture(profiles: list[FunctionProfile], path: Path, title: str, most: int = 20) -> None:
    """An SVG of stacked bars: for each of the `most` costliest functions, issued instructions and stalls by cause."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [p for p in profiles if p.cycles][:most][::-1]
    parts = {"instructions": [float(p.instructions) for p in shown]}
    parts |= {f"{cause} stalls": [p.stalls[cause] for p in shown] for cause in STALLS}
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.35 * len(shown)), layout="constrained")
    left = [0.0] * len(shown)
    for label, widths in parts.items():
        if any(widths):
            axes.barh([p.name for p in shown], widths, left=left, label=label)
            left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_xlabel("cycles, modelled")
    axes.set_title(title)
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, format="svg")
    pyplot.close(figure)
