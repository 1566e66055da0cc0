# SPDX-License-Identifier: MIT
"""Run, profile, disassemble and trace programs for the ESP32-S3 on a simulated core (`just lx7 --help`)."""

import argparse
import bisect
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from host_sim.lx7 import isa, profile, silicon, toolchain
from host_sim.lx7.library import sanitized_environment
from host_sim.lx7.machine import Machine, MachineError, Registers
from host_sim.lx7.program import Program, ProgramError
from host_sim.lx7.timing import Cache, Timing
from host_sim.setup.shell import BUILD, ROOT, Failure, one_line_errors
from host_sim.tables import SIMULATOR, write_between

SOURCES = (".c", ".S")
Action = Callable[[argparse.Namespace], int]


def program_of(files: list[Path]) -> Program:
    """The given ELF file, or a program built from the given sources."""
    for path in files:
        if not path.exists():
            raise Failure(f"{path}: no such file")
    if all(path.suffix in SOURCES for path in files):
        output = BUILD / "lx7" / f"{files[0].stem}.elf"
        return Program.load(toolchain.build(files, output))
    if len(files) > 1:
        raise Failure("give one ELF file, or sources ending in .c and .S")
    return Program.load(files[0])


def timing_of(arguments: argparse.Namespace) -> Timing:
    """The cycle model that the options ask for."""
    try:
        return Timing(
            store_extra=0.6 if arguments.slow_stores else 0.0,
            data_cache=Cache(arguments.data_cache * 1024, arguments.line),
        )
    except ValueError as error:
        raise Failure(str(error)) from None


def machine_of(arguments: argparse.Namespace) -> Machine:
    """A core with the program loaded."""
    machine = Machine(timing_of(arguments))
    machine.load(program_of(arguments.files))
    return machine


def run_to_end(machine: Machine, arguments: argparse.Namespace) -> int:
    """Run a program and print its output; returns its exit status."""
    try:
        if not machine.run(arguments.limit):
            raise Failure(f"the program did not end within {arguments.limit:,} instructions (see --limit)")
    finally:
        sys.stdout.write(machine.output.decode(errors="replace"))
        sys.stdout.flush()
    return machine.exit_status or 0


def run(arguments: argparse.Namespace) -> int:
    """lx7 run"""
    machine = machine_of(arguments)
    status = run_to_end(machine, arguments)
    print(profile.summary(machine))
    return status


def profile_program(arguments: argparse.Namespace) -> int:
    """lx7 profile"""
    machine = machine_of(arguments)
    status = run_to_end(machine, arguments)
    profiles = profile.by_function(machine)
    print(profile.function_table(profiles))
    for function in arguments.function:
        if function not in {p.name for p in profiles}:
            raise Failure(f"--function {function}: did not run")
        print(f"\n{function}:\n{profile.listing(machine, function)}")
    print(f"\n{profile.summary(machine)}")
    arguments.svg.parent.mkdir(parents=True, exist_ok=True)
    profile.picture(profiles, arguments.svg, f"{arguments.files[0].name} on one core at 240 MHz")
    print(f"picture: {arguments.svg}")
    return status


def disassembly(program: Program, function: str | None) -> Iterator[str]:
    """Disassembled lines, function by function."""
    if function and function not in program.symbols:
        raise Failure(f"--function {function}: not in the program")
    # Literals may lie between functions, so decoding starts anew at each function.
    starts = [address for address, _ in program.starts]
    for segment in (segment for segment in program.segments if segment.executable):
        pc, end = segment.address, segment.address + len(segment.data)
        while pc < end:
            following = bisect.bisect_right(starts, pc)
            limit = min(starts[following] if following < len(starts) else end, end)
            code = segment.data[pc - segment.address : min(limit, pc + 4) - segment.address]
            decoded = isa.decode(code, pc)
            length = decoded.instruction.length if decoded else 1
            name, distance = program.function_at(pc) or ("", 0)
            if function in (None, name):
                if distance == 0 and name:
                    yield f"\n{name}:"
                yield f"{pc:#010x}  {code[:length].hex(' '):11}  {decoded.text if decoded else '.byte'}"
            pc += length


def disassemble(arguments: argparse.Namespace) -> int:
    """lx7 disasm"""
    for line in disassembly(program_of(arguments.files), arguments.function):
        print(line)
    return 0


def changes(before: Registers, after: Registers) -> str:
    """Registers that differ between two states, as text."""
    parts = [f"a{n}={value:#x}" for n, value in enumerate(after.a) if value != before.a[n]]
    parts += [f"f{n}={value:#010x}" for n, value in enumerate(after.f) if value != before.f[n]]
    parts += [f"q{n}={bytes(value).hex()}" for n, value in enumerate(after.q) if (value != before.q[n]).any()]
    parts += [f"qacc[{n}]={value}" for n, value in enumerate(after.qacc) if value != before.qacc[n]]
    for name in ("accx", "sar", "sar_byte", "br", "lcount", "windowbase"):
        if getattr(after, name) != getattr(before, name):
            parts.append(f"{name}={getattr(after, name)}")
    return " ".join(parts)


def trace(arguments: argparse.Namespace) -> int:
    """lx7 trace"""
    machine = machine_of(arguments)
    if arguments.function:
        start = machine.address_of(arguments.function)
        machine.run(until=start)
        if machine.registers.pc != start:
            raise Failure(f"--function {arguments.function}: the program ended before reaching it")
    for _ in range(arguments.count):
        before, cycles = machine.registers, machine.totals.cycles
        ended = machine.run(1)
        _, text = machine.instruction_at(before.pc)
        print(
            f"{cycles:10,.0f}  {machine.place(before.pc):40}  {text:40}  {changes(before, machine.registers)}".rstrip()
        )
        if ended:
            break
    return 0


def check_toolchain(arguments: argparse.Namespace) -> int:
    """lx7 check-toolchain"""
    differences, count = toolchain.compare_with_assembler(arguments.assembler)
    for line in differences:
        print(line)
    print(f"{count - len(differences)} of {count} instructions assemble to the table's bytes")
    return 1 if differences else 0


def fuzz(arguments: argparse.Namespace) -> int:
    """lx7 fuzz"""
    if "LX7_LIBRARY" not in os.environ:
        command = [sys.executable, "-m", "host_sim.lx7", *sys.argv[1:]]
        return subprocess.run(command, cwd=ROOT, env=sanitized_environment()).returncode
    from host_sim.lx7.fuzz import fuzz as run_cases

    def progress(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done:,} of {arguments.cases:,}", end="", file=sys.stderr, flush=True)

    elf = toolchain.build_kernels()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run_cases(arguments.cases, arguments.seed, elf, Path(folder), progress)
    print(
        f"{arguments.cases:,} cases, none crashed; random programs: {outcomes.ended:,} ended, {outcomes.stopped:,} "
        f"were stopped repeatedly ({outcomes.instructions:,} instructions); "
        f"damaged ELF files: {outcomes.loaded:,} loaded, {outcomes.refused:,} refused"
    )
    return 0


def compare_with_silicon(arguments: argparse.Namespace) -> int:
    """lx7 silicon"""
    table = silicon.rows()
    text, broken = silicon.markdown(table), silicon.broken(table)
    print(text)
    silicon.record(table)
    if arguments.docs:
        write_between(SIMULATOR, silicon.START, silicon.END, text)
    for line in broken:
        print(f"more than 3 % off: {line}")
    return 1 if broken else 0


def parser() -> tuple[argparse.ArgumentParser, Callable[..., argparse.ArgumentParser]]:
    """The command line, and what gives it another command: add(name, action, text) returns the command's parser."""
    main = argparse.ArgumentParser(
        prog="just lx7",
        description="Run programs for the ESP32-S3's Xtensa LX7 core, including PIE, on a simulated core. "
        "Cycles are modelled, never measured.",
    )
    commands = main.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, action: Action, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(action=action)
        return command

    def add_for_programs(name: str, action: Action, text: str, *, runs: bool = False) -> argparse.ArgumentParser:
        command = add(name, action, text)
        command.add_argument(
            "files",
            metavar="FILE",
            type=Path,
            nargs="+",
            help="sources of a program (.c, .S), or one ELF file",
        )
        if runs:
            command.add_argument(
                "--limit", type=int, default=10**10, help="maximum number of instructions (default: %(default)s)"
            )
            command.add_argument("--slow-stores", action="store_true", help="charge 1.6 cycles for a store, not 1")
            command.add_argument(
                "--data-cache", type=int, default=64, metavar="KB", help="data cache size (default: %(default)s)"
            )
            command.add_argument(
                "--line", type=int, default=64, metavar="BYTES", help="cache line size (default: %(default)s)"
            )
        return command

    add_for_programs("run", run, "Run a program and count its cycles", runs=True)
    command = add_for_programs("profile", profile_program, "Run a program and show where its cycles go", runs=True)
    command.add_argument("--function", action="append", default=[], help="also list its instructions (repeatable)")
    command.add_argument(
        "--svg", type=Path, default=BUILD / "lx7" / "profile.svg", help="the picture (default: %(default)s)"
    )
    command = add_for_programs("disasm", disassemble, "Show a program's instructions")
    command.add_argument("--function", help="only this function")
    command = add_for_programs("trace", trace, "Show each instruction as it runs, with what it changes", runs=True)
    command.add_argument("--function", help="start at the first call of this function")
    command.add_argument("--count", type=int, default=100, help="instructions to show (default: %(default)s)")
    command = add("check-toolchain", check_toolchain, "Compare the table's encodings with Espressif's assembler")
    command.add_argument("--assembler", default="xtensa-esp32s3-elf-as", help="its name or path (default: %(default)s)")
    command = add("silicon", compare_with_silicon, "Compare the cycle model with published measurements")
    command.add_argument("--docs", action="store_true", help="write the table into docs/simulator.md")
    command = add("fuzz", fuzz, "Run random code and damaged ELF files under sanitizers")
    command.add_argument("--cases", type=int, default=10**6, help="how many (default: %(default)s)")
    command.add_argument("--seed", type=int, default=1, help="of the random numbers (default: %(default)s)")
    return main, add


def execute(main: argparse.ArgumentParser) -> None:
    """Run the command that the command line names."""
    arguments = main.parse_args()
    try:
        status = arguments.action(arguments)
    except (MachineError, ProgramError, ValueError) as error:
        raise Failure(str(error)) from None
    if status:
        raise SystemExit(status)


@one_line_errors
def main() -> None:
    """Command line."""
    execute(parser()[0])


if __name__ == "__main__":
    sys.exit(main())
