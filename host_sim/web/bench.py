# SPDX-License-Identifier: MIT
"""Times a picture in the page beside onnxruntime-web (same sizes, one thread, SIMD) and the kernels on the host.

The three are measured by turns in one Chromium and one process, so that what else runs on the machine slows all of
them: the ratio counts, and milliseconds of a busy machine do not.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from host_sim.setup.artefact import write_whole
from host_sim.setup.package import use_firmware
from host_sim.setup.shell import BUILD, ROOT, lock, one_line_errors, step
from host_sim.web.browser import browser, open_page
from host_sim.web.server import serving
from host_sim.web.site import check_tools, install, models, site

PACKAGE = ROOT / "host_sim" / "web" / "bench"
WORK = BUILD / "web-bench"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
TIMES = "/tmp/times"
IN_PAGE = """
import time
from ftervit import read_image
picture = model.preprocess(read_image("images/9_ankle_boot.pgm"))
times = []
for _ in range({runs}):
    start = time.ticks_us()
    model(picture)
    times.append(time.ticks_diff(time.ticks_us(), start) / 1000)
with open("{place}", "w") as file:
    file.write(" ".join(str(t) for t in times))
"""


def on_host(model: Any, picture: Any, runs: int) -> list[float]:
    """Milliseconds of the kernels under CPython, with this machine's best backend."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        model(picture)
        times.append(1000 * (time.perf_counter() - start))
    return times


def in_page(page: Any, runs: int) -> list[float]:
    """Milliseconds of MicroPython in the page."""
    page.bring_to_front()
    code = IN_PAGE.format(runs=runs, place=TIMES)
    done = page.evaluate("code => ftervit.board.call('run', { code })", code)
    assert done, "the measurement failed in the page"
    read = "async path => new TextDecoder().decode(await ftervit.board.call('read', { path }))"
    return [float(word) for word in page.evaluate(read, TIMES).split()]


def prepare() -> tuple[Path, list[int]]:
    """The folder of onnxruntime-web with both models, and the shape of their input."""
    from ftervit.modelfile import ModelFile

    from host_sim.web.onnx_model import write

    check_tools()
    folder = WORK / "site"
    folder.mkdir(parents=True, exist_ok=True)
    with lock("web-bench"):
        install([PACKAGE / name for name in ("package.json", "package-lock.json", ".npmrc")], WORK)
        for name in RUNTIME:
            shutil.copyfile(WORK / "node_modules" / "onnxruntime-web" / "dist" / name, folder / name)
        shutil.copyfile(PACKAGE / "index.html", folder / "index.html")
        with step("making the same network for onnxruntime-web"):
            return folder, write(ModelFile(str(models()[0])).architecture, folder)


def bench(arguments: argparse.Namespace) -> None:
    """Measure, print, and write build/bench-web.json."""
    import ftervit

    folder, shape = prepare()
    network = ftervit.VisionTransformer.load(str(models()[0]))
    picture = network.preprocess(ftervit.read_image(str(ROOT / "firmware" / "images" / "9_ankle_boot.pgm")))
    times: dict[str, list[float]] = {"page": [], "fp32": [], "int8": [], "host": []}
    with serving(site()) as ours, serving(folder) as theirs, browser() as running:
        page = open_page(running.new_context(), ours)
        other = running.new_context().new_page()
        other.goto(theirs)
        other.wait_for_function("() => globalThis.measure !== undefined")
        for round in range(arguments.rounds + 1):
            found = {"page": in_page(page, arguments.runs), "host": on_host(network, picture, arguments.runs)}
            other.bring_to_front()
            for name in ("fp32", "int8"):
                call = "([name, shape, runs]) => measure(name, shape, runs)"
                found[name] = other.evaluate(call, [name, shape, arguments.runs])
            if round:  # the first is for the compilers of the browser
                for name, values in found.items():
                    times[name] += values
    medians = {name: statistics.median(values) for name, values in times.items()}
    theirs_ms = min(medians["fp32"], medians["int8"])
    titles = {
        "page": "this page, int8 and ternary",
        "fp32": "onnxruntime-web, fp32",
        "int8": "onnxruntime-web, int8",
        "host": "the same C on this machine",
    }
    for name, title in titles.items():
        print(f"{title:28} {medians[name]:7.2f} ms {1000 / medians[name]:7.0f} pictures/s")
    ratio = theirs_ms / medians["page"]
    print(f"onnxruntime-web's faster one takes {ratio:.2f} times as long as the page (medians, by turns)")
    result = {"ours_ms": medians["page"], "ort_web_ms": theirs_ms, "ratio": ratio} | {
        f"{name}_ms": medians[name] for name in ("fp32", "int8", "host")
    }
    write_whole(BUILD / "bench-web.json", json.dumps({name: round_(value) for name, value in result.items()}) + "\n")


def round_(value: float) -> float:
    """Three decimals."""
    return round(value, 3)


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="host_sim.web.bench", description="Times the page beside onnxruntime-web; writes build/bench-web.json."
    )
    parser.add_argument("--rounds", type=int, default=10, help="turns (default 10)")
    parser.add_argument("--runs", type=int, default=10, help="pictures a turn (default 10)")
    bench(parser.parse_args())


if __name__ == "__main__":
    use_firmware()
    sys.exit(main())
