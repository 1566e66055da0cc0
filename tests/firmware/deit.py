# SPDX-License-Identifier: MIT
"""A whole DeiT-III-S at 224 on the board in QEMU: heap, time, and the host simulator's numbers after every block.

    python -m tests.firmware.deit       (`just deit`; minutes)

Its weights are random and seeded. The head's are random too, unlike those of timm's untrained models, whose logits are
all zero.
"""

import json
import subprocess
import sys
import tempfile
from binascii import crc32
from pathlib import Path

from host_sim.board import Board, stream
from host_sim.environment import BUILD, ROOT, Failure, one_line_errors, step
from host_sim.qemu_board import HEAP, firmware

NAME = "deit3_small_patch16_224"
SIDE, CHANNELS, CLASSES = 224, 3, 1000
FILE = BUILD / "models" / f"random_{NAME}.safetensors"
# What a model may take beside its activations.
LIMIT = 64 << 10

SCRIPT = f"""
import gc, time
from binascii import crc32
from ftervit import Image, VisionTransformer
from ftervit.layers import patch_scratch, scratch
def used():
    gc.collect()
    return gc.mem_alloc()
def since(start):
    return time.ticks_diff(time.ticks_ms(), start) / 1000
start, before = time.ticks_ms(), used()
model = VisionTransformer.load("models/{FILE.name}")
activations, patches = sum(model.plan.pieces), len(patch_scratch.get(0))
beside = used() - before - activations - patches
print("loaded in %.1f s; heap: %d bytes beside %d of activations and %d of patches"
    % (since(start), beside, activations, patches))
print("beside", beside)
with open("picture.bin", "rb") as file:
    picture = model.preprocess(Image(file.read(), {SIDE}, {SIDE}, {CHANNELS}))
start = time.ticks_ms()
x = model.embed(picture)
print("sum", crc32(x))
for block in model.blocks:
    x = block(x, model._work)
    print("sum", crc32(x))
logits = model.head(model.norm(x[: model.embed_dim]))
print("picture in %.1f s, %d bytes of heap in use" % (since(start), used()))
print("logits", list(logits))
"""


def make_model() -> None:
    """Export the network with random weights, calibrated on one picture."""
    from tests.tiny import images, small, untrained
    from trainer.calibrate import calibrate
    from trainer.export import export

    student = untrained(small(NAME, NAME, img_size=SIDE, channels=CHANNELS, classes=CLASSES))
    calibrate(student, images(1, SIDE, CHANNELS))
    FILE.parent.mkdir(parents=True, exist_ok=True)
    export(student, FILE)


def on_host(pixels: bytes) -> tuple[list[int], list[int]]:
    """CRC-32 of the residual stream before the first block and after each, and logits."""
    sys.path[:0] = [str(ROOT / "host_sim"), str(ROOT / "firmware")]
    from ftervit import Image, VisionTransformer

    model = VisionTransformer.load(str(FILE))
    x = model.embed(model.preprocess(Image(pixels, SIDE, SIDE, CHANNELS)))
    sums = [crc32(x)]
    for block in model.blocks:
        x = block(x, model._work)
        sums.append(crc32(x))
    return sums, list(model.head(model.norm(x[: model.embed_dim])))


def numbers(output: str, key: str) -> list:
    """What stands behind each line that begins with `key`."""
    return [json.loads(line.removeprefix(key)) for line in output.splitlines() if line.startswith(key + " ")]


@one_line_errors
def main() -> None:
    """Command line."""
    program = firmware()
    if not FILE.exists():
        with step(f"making {FILE.relative_to(ROOT)}"):
            # In a process of its own: torch's memory is not needed afterwards.
            code = "from tests.firmware.deit import make_model; make_model()"
            subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    pixels = bytes((i * 7 + (i >> 8) * 13) & 255 for i in range(SIDE * SIDE * CHANNELS))
    with step("computing it on the host"):
        sums, logits = on_host(pixels)
    if len(set(sums)) != len(sums) or len(set(logits)) < CLASSES // 10:
        raise Failure(f"{FILE.relative_to(ROOT)}: a block does nothing, or logits repeat: remove it and run this again")
    with tempfile.TemporaryDirectory() as folder:
        flash, script = Path(folder) / "flash", Path(folder) / "script.py"
        (flash / "models").mkdir(parents=True)
        (flash / "models" / FILE.name).write_bytes(FILE.read_bytes())
        (flash / "picture.bin").write_bytes(pixels)
        script.write_text(SCRIPT)
        with Board(kind="qemu", program=program, flash=flash) as board:
            status, output = stream(board.command("run", script))
    if status:
        raise Failure("the script failed on the board: its output stands above")
    (beside,) = numbers(output, "beside")
    if numbers(output, "sum") != sums or numbers(output, "logits") != [logits]:
        raise Failure("the board's numbers are not the host's")
    if beside > LIMIT:
        raise Failure(f"the model takes {beside} bytes of heap beside its activations, at most {LIMIT} are wanted")
    print(f"{NAME}: all {len(sums)} residual streams and {len(logits)} logits are the host's; {HEAP >> 20} MB of heap")


if __name__ == "__main__":
    sys.exit(main())
