# SPDX-License-Identifier: MIT
"""This engine beside other runtimes on this machine's processor (writes build/bench-host.json).

    python -m trainer.experiments.bench_host [--threads N] [--batch N ...] [--isa best avx2] [--rounds N]

Every runtime has a process of its own; calls take turns, and the best of all rounds counts, in ms of wall time and of
processor time over all threads. Peers compute the same network of timm in int8, made by their own tools; weights are
random. onnxruntime chooses its instructions itself, so it has no row for a forced set.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from host_sim.setup.package import use_firmware
from host_sim.setup.shell import BUILD, ROOT, Failure, one_line_errors, processors, run, step

NETWORKS = ("deit3_small_patch16_224", "deit_tiny_patch16_224")
SHIPPED = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"
PEERS = ROOT / "trainer" / "experiments" / "peers.py"
FOLDER, ENVIRONMENT = BUILD / "bench-host", BUILD / "bench-env"
PACKAGES = ("numpy", "onnx", "onnxruntime", "openvino", "nncf")
# An instruction set -> our backend, OpenVINO's setting.
SETS = {"best": (None, None), "avx2": ("avx2", "AVX2")}


def peers_python() -> Path:
    """The Python of the peers' environment, made if needed."""
    python = ENVIRONMENT / "bin" / "python"
    done = ENVIRONMENT / "whole"
    if not done.exists():
        with step("installing onnxruntime and openvino"):
            run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], "making an environment", "bench-env.log")
            run([python, "-m", "pip", "install", *PACKAGES], "installing peers", "bench-env.log")
        (site,) = ENVIRONMENT.glob("lib/python3*/site-packages")
        mine = Path(next(path for path in sys.path if path.endswith("site-packages")))
        (site / "project.pth").write_text(f"{mine}\n")  # torch and timm
        done.touch()
    return python


def our_file(name: str) -> Path:
    """The network as a model file of random weights."""
    path = FOLDER / f"{name}.safetensors"
    if not path.exists():
        from trainer.experiments.deit import make_model

        with step(f"making {path.name}"):
            make_model(224, name, path)
    return path


class Runner:
    """A process that computes a batch for each line that it gets."""

    def __init__(self, row: dict[str, Any], command: list[Any], environment: dict[str, str]):
        self.row = row
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(
            list(map(str, command)), text=True, cwd=ROOT, env=os.environ | environment, **pipes
        )

    def line(self) -> str:
        """The next line that it prints that is ours."""
        for line in self.process.stdout:  # type: ignore[union-attr]
            if line == "ready\n" or line.startswith('{"ms"'):
                return line
        raise Failure(f"{self.row['runtime']} ({self.row['name']}, {self.row['isa']}) ended without a result")

    def time(self) -> None:
        """One call; the best of each figure stays in the row."""
        print(file=self.process.stdin, flush=True)
        for key, value in json.loads(self.line()).items():
            better = max if key == "peak_bytes" else min
            self.row[key] = better(self.row.get(key, value), value)

    def end(self) -> None:
        """Let the process end."""
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


def runners(name: str, isa: str, threads: int, batch: int) -> list[Runner]:
    """Of each runtime that has this network and set."""
    backend, onednn = SETS[isa]
    row = {"name": name, "isa": isa, "threads": threads, "batch": batch}
    ours = SHIPPED if name == SHIPPED.stem else our_file(name)
    serve = [sys.executable, "-m", "trainer.experiments.bench_host", "--serve", ours, backend or "", threads, batch]
    found = [Runner({**row, "runtime": "ftervit"}, serve, {})]
    if ours != SHIPPED:
        time = [peers_python(), PEERS, "time"]
        forced = {"ONEDNN_MAX_CPU_ISA": onednn} if onednn else {}
        file = FOLDER / name
        found.append(
            Runner({**row, "runtime": "openvino"}, [*time, "openvino", f"{file}.int8.xml", threads, batch], forced)
        )
        if not onednn:
            file_of = f"{file}.int8.onnx"
            found.append(Runner({**row, "runtime": "onnxruntime"}, [*time, "onnxruntime", file_of, threads, batch], {}))
    return found


_work: Any = None  # of a forked process: model and picture


def _take(model: Any, picture: Any) -> None:
    global _work
    _work = model, picture


def _compute(_: int) -> tuple[int, tuple[float, int]]:
    """A picture; this process and what it has used."""
    from trainer.experiments.peers import used

    model, picture = _work
    model(picture)
    return os.getpid(), used()


def serve(path: str, backend: str, threads: int, batch: int) -> None:
    """The same as peers.py, for this engine: one picture on all threads, or a picture for each at a time."""
    use_firmware()
    import multiprocessing

    import ternary
    from ftervit import Image, VisionTransformer

    from trainer.experiments.peers import answer

    if backend:
        ternary.use(backend)
    ternary.cores(threads if batch == 1 else 1)
    model = VisionTransformer.load(path)
    side, channels = model.img_size, model.in_chans
    picture = model.preprocess(Image(bytes(i * 7 & 255 for i in range(side * side * channels)), side, side, channels))
    if batch == 1:
        answer(lambda: model(picture))
        return
    spent: dict[int, tuple[float, int]] = {}
    stretch = max(1, batch // (4 * threads))  # pictures handed over at a time, as `just eval` does
    with multiprocessing.get_context("fork").Pool(threads, _take, (model, picture)) as pool:

        def call() -> None:
            spent.update(pool.imap_unordered(_compute, range(batch), stretch))

        def usage() -> tuple[float, int]:
            return sum(cpu for cpu, _ in spent.values()), sum(peak for _, peak in spent.values())

        answer(call, usage)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [
        f"{'network':26}{'isa':6}{'threads':>8}{'batch':>6}  {'runtime':12}{'ms':>9}{'cpu ms':>9}"
        f"{'pictures/s':>12}{'MB':>7}"
    ]
    for row in rows:
        lines.append(
            f"{row['name']:26}{row['isa']:6}{row['threads']:8}{row['batch']:6}  {row['runtime']:12}{row['ms']:9.2f}"
            f"{row['cpu_ms']:9.2f}{row['pictures_per_s']:12.1f}{row['peak_bytes'] / 1e6:7.0f}"
        )
    return "\n".join(lines)


@one_line_errors
def main() -> None:
    """Command line."""
    if sys.argv[1:2] == ["--serve"]:
        path, backend, threads, batch = sys.argv[2:]
        serve(path, backend, int(threads), int(batch))
        return
    parser = argparse.ArgumentParser(prog="just bench-host", description="This engine beside other runtimes.")
    parser.add_argument("--threads", type=int, nargs="+", default=[processors()], help="default: all")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64], help="pictures of a call (default: 1 64)")
    parser.add_argument("--isa", nargs="+", choices=SETS, default=list(SETS), help="instruction sets (default: all)")
    parser.add_argument("--network", nargs="+", choices=(*NETWORKS, SHIPPED.stem), default=[*NETWORKS, SHIPPED.stem])
    parser.add_argument("--rounds", type=int, default=9, help="calls of each (default: 9)")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in set(arguments.network) - {SHIPPED.stem}:
        if not (FOLDER / f"{name}.int8.xml").exists():
            with step(f"making the peers' int8 models of {name}"):
                run([peers_python(), PEERS, "make", name, FOLDER], "making the peers' models", "bench-host.log")
    rows = []
    for name in arguments.network:
        for isa in arguments.isa:
            for threads in arguments.threads:
                for batch in arguments.batch:
                    together = runners(name, isa, threads, batch)
                    for each in together:
                        each.line()
                    for _ in range(arguments.rounds if batch == 1 else max(1, arguments.rounds // 3)):
                        for each in together:
                            each.time()
                    for each in together:
                        each.end()
                        each.row["pictures_per_s"] = batch * 1000 / each.row["ms"]
                        rows.append(each.row)
                    print(table(rows[-len(together) :]), flush=True)
    (BUILD / "bench-host.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    sys.exit(main())
