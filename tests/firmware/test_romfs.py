# SPDX-License-Identifier: MIT
"""Model files in a ROM file system: read in place if aligned to 16 bytes, otherwise copied."""

import json

import pytest
from mpremote.romfs import make_romfs

from host_sim.setup.romfs import build_image
from tests.firmware.test_equality import host_logits
from tests.tiny import pictures

BOARD_SCRIPT = """
import uctypes, vfs
from ftervit import Image, VisionTransformer
with open("rom{offset}.img", "rb") as file:
    image = file.read()
vfs.mount(vfs.VfsRom(image), "/rom")
with open("/rom/model.safetensors", "rb") as file:
    view = memoryview(file)
    address, size = uctypes.addressof(view), len(view)
model = VisionTransformer.load("/rom/model.safetensors")
weight = uctypes.addressof(model.head.weight)
print("address", address % 16, address < weight < address + size)
with open("picture.bin", "rb") as file:
    print("logits", list(model(model.preprocess(Image(file.read(), 28, 28, 1)))))
"""


def run_from_image(image, model, board, tmp_path, offset):
    """Load the model out of an image and compare its logits; returns its address modulo 16 and whether it was read in
    place."""
    picture = pictures(3)[1].numpy()
    (tmp_path / f"rom{offset}.img").write_bytes(image)
    (tmp_path / "picture.bin").write_bytes(picture.tobytes())
    (tmp_path / "script.py").write_text(BOARD_SCRIPT.format(offset=offset))
    board.mpremote("fs", "cp", tmp_path / f"rom{offset}.img", tmp_path / "picture.bin", ":")
    result = board.mpremote("run", tmp_path / "script.py")
    values = dict(line.split(" ", 1) for line in result.stdout.splitlines() if " " in line)
    assert "logits" in values, result.stdout
    assert json.loads(values["logits"]) == host_logits(model, picture[None, ..., None])[0].tolist()
    address, in_place = values["address"].split()
    return int(address), in_place == "True"


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_model_in_a_rom_file_system(odd_model, own_board, tmp_path, offset):
    content = tmp_path / "content"
    content.mkdir()
    (content / "model.safetensors").write_bytes(odd_model.read_bytes())
    # MicroPython's builder does not align files: an earlier file moves the model.
    (content / "filler").write_bytes(bytes(offset))
    image = make_romfs(str(content), mpy_cross=False)
    address, in_place = run_from_image(image, odd_model, own_board, tmp_path, offset)
    assert in_place == (address == 0)


@pytest.mark.parametrize("offset", range(0, 16, 5))
def test_model_in_an_aligned_image(odd_model, own_board, tmp_path, offset):
    image = build_image({"filler": bytes(offset), "model.safetensors": odd_model, "last": bytes(offset)})
    assert run_from_image(image, odd_model, own_board, tmp_path, offset) == (0, True)
