# SPDX-License-Identifier: MIT
"""The package on a 32-bit board whose flash is mapped and read-only: logits, memory, interruptions, addresses."""

import ast
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from host_sim.boards import qemu
from host_sim.boards.client import Board
from host_sim.esp32.firmware import deploy
from host_sim.setup.romfs import build_image
from host_sim.setup.shell import Failure
from tests.boards import children
from tests.conftest import ROOT
from tests.firmware.test_equality import host_logits
from tests.tiny import calibrated, images, small, untrained
from trainer.data import load_fashion_mnist
from trainer.integer.calibrate import calibrate
from trainer.modelfile.export import export

FIRMWARE = ROOT / "firmware"
# Name, side and channels of the pictures, count.
MODELS = (("fashion_mnist", 28, 1, 10), ("stem", 29, 3, 3), ("odd", 28, 1, 3))

LOGITS = """
from ftervit import Image, VisionTransformer
model = VisionTransformer.load("models/{name}.safetensors")
with open("{name}.bin", "rb") as file:
    for index in range({count}):
        picture = Image(file.read({side} * {side} * {channels}), {side}, {side}, {channels})
        print("logits", list(model(model.preprocess(picture))))
"""

# Heap of a model besides its activations, and the peak during loading.
HEAP = """
import gc
from ftervit import VisionTransformer
def used():
    gc.collect()
    return gc.mem_alloc()
for name in {names}:
    before = used()
    model = VisionTransformer.load("models/%s.safetensors" % name)
    after = used()
    activations, patches = sum(model.plan.pieces), model.plan.patch_bytes
    print("heap", name, after - before - activations - patches, activations, patches)
    del model
"""

# Of the package.
FILES = (
    "__init__",
    "architecture",
    "camera",
    "costs",
    "estimate",
    "frames",
    "image",
    "layers",
    "layout",
    "learned",
    "learner",
    "modelfile",
    "plan",
    "ridge",
    "strictjson",
    "vit",
)
# The import of what everybody uses, then what is imported when the first model is loaded.
IMPORT = """
import gc
def used():
    gc.collect()
    return gc.mem_alloc()
before = used()
from ftervit import VisionTransformer, read_image
print("import", used() - before)
before = used()
import ftervit.modelfile, ftervit.plan
print("later", used() - before)
for name in {files}:
    with open("ftervit/%s.mpy" % name, "rb") as file:
        print("file", name, file.read(2) == b"M\x06")
"""
IMPORT_LIMIT = 16 * 1024

START = """
from ftervit import VisionTransformer, read_image
model = VisionTransformer.load("models/fashion_mnist.safetensors")
picture = model.preprocess(read_image("images/7_sneaker.pgm"))
"""


@pytest.fixture(scope="module")
def program():
    """The firmware."""
    return qemu.firmware()


@pytest.fixture(scope="module")
def pictures():
    """Name of a model -> pictures, uint8 [count, side, side, channels]."""
    found = {name: images(count, side, channels, seed=9).numpy() for name, side, channels, count in MODELS[1:]}
    return found | {"fashion_mnist": load_fashion_mnist("t10k").images[: MODELS[0][3]].numpy()}


@pytest.fixture(scope="module")
def models(shipped, stem_model, odd_model, tmp_path_factory):
    """Name -> model file; narrow and wide differ only in width."""
    found = {"fashion_mnist": shipped, "stem": stem_model, "odd": odd_model}
    for name, width in (("narrow", 32), ("wide", 64)):
        found[name] = tmp_path_factory.mktemp(name) / f"{name}.safetensors"
        export(calibrated(small(name, embed_dim=width, depth=2, num_heads=2)), found[name])
    return found


@pytest.fixture(scope="module")
def board(program, models, pictures, tmp_path_factory):
    """A board with all models and pictures in its flash."""
    flash = tmp_path_factory.mktemp("flash")
    (flash / "models").mkdir()
    for name, path in models.items():
        (flash / "models" / f"{name}.safetensors").write_bytes(path.read_bytes())
    for name, some in pictures.items():
        (flash / f"{name}.bin").write_bytes(some.tobytes())
    with Board(kind="qemu", program=program, flash=flash) as board:
        yield board


@pytest.fixture
def run(board, tmp_path):
    """Run a script and return its output; the test fails if the script does."""

    def run(text, *before):
        (tmp_path / "script.py").write_text(text)
        result = board.mpremote(*before, "run", tmp_path / "script.py", timeout=120)
        assert result.returncode == 0, result.stdout
        return result.stdout

    return run


def values(output, key):
    """The words behind each line that begins with `key`."""
    return [line.split()[1:] for line in output.splitlines() if line.startswith(key + " ")]


def test_classify(board):
    result = board.mpremote("run", FIRMWARE / "classify.py", timeout=120)
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"(\d+) of 10 right\s*$", result.stdout)[1]) >= 8


@pytest.mark.parametrize("heap", ["176K", "188K", "200K", "212K", "224K"])
def test_classify_on_a_small_heap(program, heap):
    """Too small for all patches at once: they are cut in more passes. A model that loads has room for every picture."""
    with Board(kind="qemu", program=program, heap=heap) as small_board:
        result = small_board.mpremote("run", FIRMWARE / "classify.py", timeout=120)
    said = re.search(r"^(MemoryError|classify\.py: MODEL): activations.* \d+ are free", result.stdout, re.MULTILINE)
    if int(heap[:-1]) < 200 and said:
        return
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"(\d+) of 10 right\s*$", result.stdout)[1]) >= 8


@pytest.mark.parametrize(("name", "side", "channels", "count"), MODELS)
def test_logits_are_those_of_the_host(name, side, channels, count, run, models, pictures):
    output = run(LOGITS.format(name=name, side=side, channels=channels, count=count))
    found = [json.loads(line.removeprefix("logits ")) for line in output.splitlines()]
    assert found == host_logits(models[name], pictures[name]).tolist()


def test_a_mounted_folder_with_the_model_in_flash(run, tmp_path, models, pictures):
    """The current folder is the computer's; package and model come from /rom."""
    (tmp_path / "mine.bin").write_bytes(pictures["odd"].tobytes())
    output = run(LOGITS.format(name="odd", side=28, channels=1, count=3).replace('"models', '"/rom/models').replace(
        '"odd.bin"', '"mine.bin"'), "mount", tmp_path)  # fmt: skip
    found = [json.loads(line.removeprefix("logits ")) for line in output.splitlines() if line.startswith("logits")]
    assert found == host_logits(models["odd"], pictures["odd"]).tolist()


def test_weights_lie_in_flash_at_multiples_of_16(run):
    output = run(
        START
        + """
import uctypes
layers = [stage.conv.linear for stage in model.patch_embed.backbone] + [model.patch_embed.proj.linear, model.head]
for block in model.blocks:
    layers += [block.norm1, block.attn.qkv, block.attn.proj, block.norm2, block.mlp.fc1, block.mlp.fc2]
for layer in layers:
    for name in ("weight", "bias", "multiplier", "shift"):
        if hasattr(layer, name):
            view = getattr(layer, name)
            print("at", uctypes.addressof(view), len(view))
try:
    layers[0].weight[0] = 1
except TypeError:
    print("read-only")
"""
    )
    places = [(int(address), int(size)) for address, size in values(output, "at")]
    assert len(places) == 3 * 4 + 4 + 3 + 4 * (2 * 2 + 4 * 4)
    for address, size in places:
        assert qemu.FLASH <= address < address + size <= qemu.FLASH + qemu.FLASH_SIZE
        assert address % 16 == 0
    assert output.endswith("read-only\n")


def test_heap_beside_the_activations(run, capsys):
    output = run(HEAP.format(names=("narrow", "fashion_mnist", "narrow", "wide")))
    # The first load includes what modules allocate once.
    found = {name: tuple(map(int, numbers)) for name, *numbers in values(output, "heap")}
    with capsys.disabled():
        for name, numbers in found.items():
            print("\n{}: {} bytes of heap, besides {} of activations and {} of patches".format(name, *numbers), end="")
    assert 0 < found["fashion_mnist"][0] <= 8320
    assert found["wide"][0] - found["narrow"][0] < 1024
    assert found["wide"][1] > found["narrow"][1]


def test_heap_that_the_package_takes(run, capsys):
    """Its bytecode and strings stay in flash; what only loading needs comes with the first model."""
    output = run(IMPORT.replace("{files}", repr(FILES)))
    [[first]], [[later]] = values(output, "import"), values(output, "later")
    with capsys.disabled():
        print(f"\nimport ftervit: {int(first):,} bytes of heap; {int(later):,} more with the first model", end="")
    assert 1024 < int(first) <= IMPORT_LIMIT
    assert int(first) + int(later) <= 22 * 1024
    assert [known for _, known in values(output, "file")] == ["True"] * len(FILES)


def test_30_inferences_take_no_memory(run):
    output = run(
        START
        + """
import gc
for count in (1, 30):
    for _ in range(count):
        model(picture)
    gc.collect()
    print("free", gc.mem_free())
"""
    )
    before, after = values(output, "free")
    assert before == after


def test_ctrl_c_during_inference(terminal):
    for line in START.split("\n"):
        terminal.send(line.encode() + b"\r")
        terminal.read_until(b"\n>>> ")
    terminal.send(b"before = list(model(picture))\r")
    terminal.read_until(b">>> ")
    terminal.send(b"while True: model(picture)\r\r")
    terminal.read_until(b"... \r\n")
    time.sleep(0.5)
    started = time.monotonic()
    terminal.send(b"\x03")
    trace = terminal.read_until(b"KeyboardInterrupt: \r\n")
    # A whole inference takes longer on a busy machine, a layer does not.
    assert time.monotonic() - started < 5
    assert b"ftervit/" in trace
    terminal.read_until(b">>> ")
    terminal.send(b"list(model(picture)) == before\r")
    terminal.read_until(b"True\r\n")


def test_a_soft_reset_in_the_middle_of_an_inference(board, run):
    board.mpremote("exec", "--no-follow", START + "while True: model(picture)")
    time.sleep(0.5)
    assert run("import gc, os; print(os.getcwd(), gc.mem_alloc() < 20000)") == "/rom True\n"


def test_reset(board, run):
    board.mpremote("exec", "--no-follow", START + "while True: model(picture)")
    assert board.mpremote("reset").returncode == 0
    assert run("import os; print('fashion_mnist.safetensors' in os.listdir('models'))") == "True\n"


def test_a_write_to_flash_is_a_fault_that_is_reported(board):
    result = board.mpremote("exec", f"import uctypes; uctypes.bytearray_at({qemu.FLASH}, 4)[0] = 0")
    assert result.returncode == 1
    assert re.search(r"fault at 0x\w{8}, called from 0x\w{8}: the board resets", result.stdout)
    assert board.mpremote("eval", "__import__('os').getcwd()").stdout == "/rom\n"


def test_an_image_deployed_by_mpremote(program, tmp_path):
    (tmp_path / "other.romfs").write_bytes(build_image({"new.txt": b"deployed"}))
    with Board(kind="qemu", program=program) as own:
        assert f"size {qemu.FLASH_SIZE} bytes" in own.mpremote("romfs", "query").stdout
        result = own.mpremote("romfs", "deploy", tmp_path / "other.romfs")
        assert result.returncode == 0, result.stdout
        assert own.mpremote("eval", "open('new.txt').read()").stdout == "deployed\n"
        own.mpremote("reset")
        time.sleep(2)  # mpremote leaves before the board resets; a client that comes at once would interrupt it
        names = ast.literal_eval(own.mpremote("eval", "__import__('os').listdir()").stdout)
        assert "models" in names and "new.txt" not in names


def test_too_small_a_heap_is_refused_with_both_numbers(program, tmp_path):
    """Activations of 197 tokens on a heap that is only large enough for the package and the check."""
    options = {"img_size": 224, "channels": 3, "classes": 2, "embed_dim": 192, "depth": 1, "num_heads": 1}
    (tmp_path / "models").mkdir()
    student = untrained(small("large", **options))
    calibrate(student, images(1, 224, 3))
    export(student, tmp_path / "models" / "large.safetensors")
    with Board(kind="qemu", program=program, flash=tmp_path, heap="320K") as small_board:
        result = small_board.mpremote("exec", START.replace("fashion_mnist", "large"))
    found = re.search(r"MemoryError: activations and picture: needs (\d+) bytes, (\d+) are free", result.stdout)
    assert found, result.stdout
    assert int(found[1]) > 320 << 10 > int(found[2])


def test_deployed_and_run(program, shipped, tmp_path, monkeypatch):
    """`just deploy PORT MODEL`, then `mpremote run classify.py` with the current directory of an ESP32-S3."""
    monkeypatch.setattr("host_sim.esp32.firmware.BUILD", tmp_path)
    with Board(kind="qemu", program=program) as own:
        deploy(own.path, shipped)
        names = ast.literal_eval(own.mpremote("eval", "__import__('os').listdir('/rom/ftervit')").stdout)
        assert names == [f"{name}.mpy" for name in FILES]
        result = own.mpremote("exec", "import os; os.chdir('/')", "run", FIRMWARE / "classify.py", timeout=120)
        assert result.returncode == 0, result.stdout
        assert re.search(r"^/rom/models/fashion_mnist\.safetensors: 10 classes", result.stdout, re.MULTILINE)
        assert len(re.findall(r"^/rom/images/\d_.*\.pgm: ", result.stdout, re.MULTILINE)) == 10
        assert int(re.search(r"(\d+) of 10 right\s*$", result.stdout)[1]) >= 8
        # Paths as in README, from any directory.
        script = f"{START}print(model.predict(read_image('images/8_bag.pgm'))[0][0])"
        assert own.mpremote("exec", "import os; os.chdir('/')\n" + script).stdout == "Bag\n"


def test_time(run):
    output = run("""
import select, sys, time
poll = select.poll()
poll.register(sys.stdin, select.POLLIN)
for wait in (lambda: time.sleep_ms(100), lambda: time.sleep_us(100000), lambda: poll.poll(100)):
    us, ms = time.ticks_us(), time.ticks_ms()
    wait()
    print("took", time.ticks_diff(time.ticks_us(), us), time.ticks_diff(time.ticks_ms(), ms))
""")
    took = values(output, "took")
    assert len(took) == 3
    for us, ms in took:
        # poll counts whole milliseconds.
        assert 99_000 <= int(us) < 5_000_000
        assert abs(int(us) / 1000 - int(ms)) < 20


def test_idle_boards_sleep(board):
    """Processor time of the server and its QEMU at the prompt, in clock ticks of 10 ms."""

    def ticks():
        pids = [board.process.pid, *children(board.process.pid)]
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
        assert len(stats) == 2
        return sum(int(stat[11]) + int(stat[12]) for stat in stats)

    board.mpremote("soft-reset")
    before = ticks()
    time.sleep(2)
    assert ticks() - before < 40


def test_what_does_not_fit_is_refused_with_both_numbers(tmp_path):
    (tmp_path / "large").write_bytes(bytes(qemu.FLASH_SIZE))
    words = r"needs 8,388,6\d\d bytes, the board's flash has 8,388,608"
    with pytest.raises(Failure, match=words), qemu.image_file(tmp_path):
        pass
    for heap in ("9M", "1K", "many"):
        with pytest.raises(Failure, match=f"--heap {heap}: must be a size like 160K, from 16K to 8M"):
            qemu.heap_bytes(heap)
    assert qemu.heap_bytes("160k") == 163840


def test_the_list_of_boards_shows_its_models(board):
    """`just boards` queries it like any other board."""
    result = subprocess.run([sys.executable, "-m", "host_sim.boards.list"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert board.path in result.stdout
    assert "virtual, Cortex-M7 in QEMU" in result.stdout
    assert "/rom/models/fashion_mnist.safetensors" in result.stdout
