# SPDX-License-Identifier: MIT
"""A whole DeiT-III-S on a virtual board: heap, time, and the host simulator's numbers after every block.

    python -m trainer.experiments.deit [224|384]     (`just deit`; minutes)

At 224 on the board in QEMU, which has the memory of an ESP32-S3 with 8 MB of PSRAM; at 384 on the unix board.

Its weights are random and seeded. The head's are random too, unlike those of timm's untrained models, whose logits are
all zero.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from binascii import crc32
from pathlib import Path

from host_sim.boards import unix
from host_sim.boards.client import Board, stream
from host_sim.boards.kinds import HEAP
from host_sim.boards.qemu import firmware
from host_sim.setup.shell import BUILD, ROOT, Failure, one_line_errors, step

NAME = "deit3_small_patch16_{side}"
BOARDS = {224: "qemu", 384: "unix"}
CHANNELS, CLASSES = 3, 1000
UNIX_HEAP = "64M"
# Heap for a model beside its activations.
LIMIT = 64 << 10

SCRIPT = """
import gc, time
from binascii import crc32
from ftervit import Image, VisionTransformer
def used():
    gc.collect()
    return gc.mem_alloc()
def since(start):
    return time.ticks_diff(time.ticks_ms(), start) / 1000
start, before = time.ticks_ms(), used()
model = VisionTransformer.load("models/{name}")
activations, patches = sum(model.plan.pieces), model.plan.patch_bytes
beside = used() - before - activations - patches
print("loaded in %.1f s; heap: %d bytes beside %d of activations and %d of patches"
    % (since(start), beside, activations, patches))
print("beside", beside)
with open("picture.bin", "rb") as file:
    picture = model.preprocess(Image(file.read(), {side}, {side}, {channels}))
start = time.ticks_ms()
x = model.embed(picture)
print("sum", crc32(x))
for block in model.blocks:
    x = block(x)
    print("sum", crc32(x))
logits = model.head(model.norm(x[: model.embed_dim]))
print("picture in %.1f s, %d bytes of heap in use" % (since(start), used()))
print("logits", list(logits))
"""


def file_of(side: int) -> Path:
    """The network's file."""
    return BUILD / "models" / f"random_{NAME.format(side=side)}.safetensors"


def make_model(side: int) -> None:
    """Export the network with random weights, calibrated on one picture."""
    import torch

    from trainer.experiments.random_weights import randomize
    from trainer.integer.calibrate import calibrate
    from trainer.model.pixels import Pixels
    from trainer.model.student import Blueprint, Student
    from trainer.model.vit import ModelSettings
    from trainer.modelfile.export import export

    name = NAME.format(side=side)
    torch.manual_seed(0)
    pixels = Pixels((0.286, 0.4, 0.5), (0.353, 0.2, 0.3))
    labels = tuple(f"class {index}" for index in range(CLASSES))
    student = Student(Blueprint(name, ModelSettings(name), side, labels, pixels))
    randomize(student)
    calibrate(student.eval(), torch.randint(0, 256, (1, side, side, CHANNELS), dtype=torch.uint8))
    file_of(side).parent.mkdir(parents=True, exist_ok=True)
    export(student, file_of(side))


def on_host(side: int, pixels: bytes) -> tuple[list[int], list[int]]:
    """CRC-32 of the residual stream before the first block and after each, and logits."""
    sys.path[:0] = [str(ROOT / "host_sim"), str(ROOT / "firmware")]
    from ftervit import Image, VisionTransformer

    model = VisionTransformer.load(str(file_of(side)))
    x = model.embed(model.preprocess(Image(pixels, side, side, CHANNELS)))
    sums = [crc32(x)]
    for block in model.blocks:
        x = block(x)
        sums.append(crc32(x))
    return sums, list(model.head(model.norm(x[: model.embed_dim])))


def on_board(kind: str, side: int, pixels: bytes) -> str:
    """What the script prints on a board that holds the file."""
    program, heap = (firmware(), HEAP) if kind == "qemu" else (unix.firmware(), UNIX_HEAP)
    file = file_of(side)
    with tempfile.TemporaryDirectory() as folder:
        flash, script = Path(folder) / "flash", Path(folder) / "script.py"
        (flash / "models").mkdir(parents=True)
        (flash / "models" / file.name).write_bytes(file.read_bytes())
        (flash / "picture.bin").write_bytes(pixels)
        script.write_text(SCRIPT.format(name=file.name, side=side, channels=CHANNELS))
        with Board(kind=kind, program=program, flash=flash, heap=heap) as board:
            status, output = stream(board.command("run", script))
    if status:
        raise Failure("the script failed on the board: its output stands above")
    return output


def numbers(output: str, key: str) -> list:
    """What stands behind each line that begins with `key`."""
    return [json.loads(line.removeprefix(key)) for line in output.splitlines() if line.startswith(key + " ")]


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="just deit", description="A whole DeiT-III-S on a virtual board.")
    parser.add_argument("side", nargs="?", type=int, choices=BOARDS, default=224, help="of pictures (default: 224)")
    side = parser.parse_args().side
    kind, file = BOARDS[side], file_of(side)
    if not file.exists():
        with step(f"making {file.relative_to(ROOT)}"):
            # In a separate process, which frees torch's memory.
            code = f"from trainer.experiments.deit import make_model; make_model({side})"
            subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    pixels = bytes((i * 7 + (i >> 8) * 13) & 255 for i in range(side * side * CHANNELS))
    with step("computing it on the host"):
        sums, logits = on_host(side, pixels)
    if len(set(sums)) != len(sums) or len(set(logits)) < CLASSES // 10:
        raise Failure(f"{file.relative_to(ROOT)}: a block does nothing, or logits repeat: remove it and run this again")
    output = on_board(kind, side, pixels)
    (beside,) = numbers(output, "beside")
    if numbers(output, "sum") != sums or numbers(output, "logits") != [logits]:
        raise Failure("the board's numbers are not the host's")
    # The unix board has no flash that maps: there the file is in the heap, too.
    if kind == "qemu" and beside > LIMIT:
        raise Failure(f"the model takes {beside} bytes of heap beside its activations, at most {LIMIT} are wanted")
    print(
        f"{NAME.format(side=side)}: all {len(sums)} residual streams and {len(logits)} logits are the host's ({kind})"
    )


if __name__ == "__main__":
    sys.exit(main())
