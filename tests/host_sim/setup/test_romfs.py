# SPDX-License-Identifier: MIT
"""ROMFS images: layout, reading by MicroPython, refusals. tests/firmware/test_romfs.py runs models."""

import json
import os
import random
import re
import sys
import time

import pytest
from mpremote.romfs import make_romfs

from host_sim.boards import qemu
from host_sim.boards.kinds import interpreters
from host_sim.setup import romfs
from host_sim.setup.romfs import build_image, image_files
from host_sim.setup.shell import ROOT, Failure
from host_sim.setup.sizes import parse_size

SHIPPED = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"

READ_ALL = """
import json, os, vfs
with open("files.romfs", "rb") as file:
    image = file.read()
vfs.mount(vfs.VfsRom(image), "/rom")
def walk(folder):
    for name, kind, _, size in os.ilistdir(folder):
        path = folder + "/" + name
        if kind == 0x4000:
            walk(path)
        else:
            with open(path, "rb") as file:
                data = memoryview(file)
                print(json.dumps([path, size, os.stat(path)[6], bytes(data).hex()]))
walk("/rom")
from folder.deep import tool
print(json.dumps(tool.VALUE))
"""


def some_files() -> dict[str, bytes]:
    """Files of sizes around every boundary, with names of all lengths, in folders."""
    generator = random.Random(5)
    sizes = [*range(34), 127, 128, 129, 16383, 16384]
    files = {f"{'x' * (i % 19)}{i}": generator.randbytes(size) for i, size in enumerate(sizes)}
    files |= {f"folder/{'y' * i}": generator.randbytes(i) for i in range(1, 20)}
    files |= {"folder/deep/tool.py": b"VALUE = 42\n", "ä/ö": b"letters"}
    return files


def test_every_file_is_aligned_and_whole():
    files = some_files()
    image = build_image(files)
    found = image_files(image)
    assert set(found) == set(files)
    for name, (offset, size) in found.items():
        assert offset % 16 == 0, name
        assert image[offset : offset + size] == files[name], name
    assert len(image) % 16 == 0


def test_micropython_reads_it(own_board, tmp_path):
    files = some_files()
    (tmp_path / "files.romfs").write_bytes(build_image(files))
    (tmp_path / "read.py").write_text("import sys; sys.path.append('/rom')\n" + READ_ALL)
    own_board.mpremote("fs", "cp", tmp_path / "files.romfs", ":files.romfs")
    result = own_board.mpremote("run", tmp_path / "read.py")
    assert result.returncode == 0, result.stdout
    *lines, value = map(json.loads, result.stdout.splitlines())
    assert {path: (size, stat, bytes.fromhex(data)) for path, size, stat, data in lines} == {
        f"/rom/{name}": (len(data), len(data), data) for name, data in files.items()
    }
    assert value == 42


def test_an_empty_image_is_one():
    assert image_files(build_image({})) == {}


def test_files_by_path(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"abc")
    image = build_image({"b": tmp_path / "a.bin"})
    offset, size = image_files(image)["b"]
    assert image[offset : offset + size] == b"abc"


def test_images_of_mpremote_can_be_read(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(bytes(range(200)))
    image = make_romfs(str(tmp_path), mpy_cross=False)
    offset, size = image_files(image)["folder/a"]
    assert image[offset : offset + size] == bytes(range(200))


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/./b", "a\0b"])
def test_names_that_are_none(name):
    with pytest.raises(Failure, match=re.escape(repr(name))):
        build_image({name: b""})


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_name_cannot_be_file_and_folder(names):
    with pytest.raises(Failure, match="already"):
        build_image(dict.fromkeys(names, b""))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(Failure, match=r"a: .*none cannot be read"):
        build_image({"a": tmp_path / "none"})


def test_lengths_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(romfs, "LARGEST", 100)
    with pytest.raises(Failure, match=r"need \d+ bytes, an image holds at most 100"):
        build_image({"a": bytes(100)})


def test_no_damage_is_believed():
    """For any damaged byte the reader returns files within the image or raises Failure."""
    image = build_image({"folder/a": bytes(20), "b": b"\xff" * 5})
    refused = 0
    for position in range(len(image)):
        for value in (0, 1, 3, 0x7F, 0x80, 0xFF):
            damaged = image[:position] + bytes([value]) + image[position + 1 :]
            try:
                assert all(offset + size <= len(damaged) for offset, size in image_files(damaged).values())
            except Failure as failure:
                assert "\n" not in str(failure)
                refused += 1
    assert refused > 50
    for size in range(len(image)):
        with pytest.raises(Failure, match="ROMFS image"):
            image_files(image[:size])


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("romfs, data, 0x8f, 0x400000, 0x600000", 0x600000),
        ("romfs,data,0x8f,,6M, # the model", 6 << 20),
        ("  romfs , data, 0x8f, 0x400000, 512K,", 512 << 10),
    ],
)
def test_partition_tables(tmp_path, line, size):
    table = tmp_path / "partitions.csv"
    table.write_text(f"# Name, Type, SubType, Offset, Size\nnvs, data, nvs, 0x9000, 0x6000\n{line}\n")
    assert romfs.partition_size(table) == size


@pytest.mark.parametrize("line", ["# romfs, data, 0x8f, 0, 4M", "romfs, data, 0x8f, 0", "romfs, data, 0x8f, 0, big"])
def test_partition_tables_without_romfs(tmp_path, line):
    table = tmp_path / "partitions.csv"
    table.write_text(line)
    with pytest.raises(Failure, match=r"partitions\.csv: .*romfs"):
        romfs.partition_size(table)


@pytest.fixture
def just_romfs(monkeypatch, tmp_path, capsys):
    """Runs the command line with two boards of 200 and 400 KB; returns status, output and error."""
    for board, size in (("SMALL", "200K"), ("LARGE", "400K")):
        (tmp_path / "boards" / board).mkdir(parents=True)
        (tmp_path / "boards" / board / "partitions.csv").write_text(f"romfs, data, 0x8f, 0x100000, {size}\n")
    monkeypatch.setattr(romfs, "BOARDS", tmp_path / "boards")
    monkeypatch.setattr(romfs, "BUILD", tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["romfs", *map(str, arguments)])
        status = romfs.main()
        return status, *capsys.readouterr()

    return run


def test_command_line(just_romfs, tmp_path):
    (tmp_path / "classify.py").write_text("# mine\n")
    status, output, _ = just_romfs(SHIPPED, ROOT / "firmware" / "images", tmp_path / "classify.py", "--board", "LARGE")
    assert status == 0
    image = (tmp_path / "romfs" / "fashion_mnist.romfs").read_bytes()
    files = {name: image[offset : offset + size] for name, (offset, size) in image_files(image).items()}
    assert files["models/fashion_mnist.safetensors"] == SHIPPED.read_bytes()
    assert files["models/fashion_mnist.txt"].split(b"\n")[9] == b"Ankle boot"
    assert files["images/7_sneaker.pgm"] == (ROOT / "firmware" / "images" / "7_sneaker.pgm").read_bytes()
    assert files["classify.py"] == b"# mine\n"
    package = {f"ftervit/{path.stem}.mpy" for path in (ROOT / "firmware" / "ftervit").glob("*.py")}
    assert package == {name for name in files if name.startswith("ftervit/")}
    assert all(files[name][:2] == b"M\6" for name in package)
    scripts = {path.name for path in (ROOT / "firmware").glob("*.py")} - {"classify.py"}
    assert all(files[name] == (ROOT / "firmware" / name).read_bytes() for name in scripts)
    assert f"{len(image):,} bytes needed, the romfs partition of LARGE has 409,600" in output
    assert f"SMALL: {len(image):,} bytes needed, its romfs partition has 204,800: too large" in output


def test_pictures_come_with_every_model(just_romfs, tmp_path):
    """Their numbers are classes of the shipped model only; classify.py reads a number only before "_"."""
    pictures = {f"images/{path.name}" for path in (ROOT / "firmware" / "images").iterdir()}
    assert just_romfs(SHIPPED)[0] == 0
    image = (tmp_path / "romfs" / "fashion_mnist.romfs").read_bytes()
    assert {name for name in image_files(image) if name.startswith("images/")} == pictures
    other = {name.replace("_", "-", 1) for name in pictures}
    assert set(romfs.pictures_for(["cat", "dog"])) == set(romfs.pictures_for(["sneaker"] * 3)) == other
    assert len(pictures) == len(other) == 10


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (("--board", "SMALL"), r"needs [\d,]+ bytes, the romfs partition of SMALL has 204,800"),
        (("--size", "0x10000"), r"needs [\d,]+ bytes, --size has 65,536"),
        (("--board", "NONE"), r"--board NONE: .* the boards are: LARGE, SMALL"),
    ],
)
def test_what_does_not_fit_is_not_written(just_romfs, tmp_path, limit, message):
    status, output, error = just_romfs(SHIPPED, *limit, "--output", tmp_path / "out.romfs")
    assert (status, output, error.count("\n")) == (1, "", 1)
    assert re.search(message, error)
    assert not (tmp_path / "out.romfs").exists()


def test_a_damaged_model_is_refused(just_romfs, tmp_path):
    data = bytearray(SHIPPED.read_bytes())
    data[-100] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(data)
    for model, message in (("damaged.safetensors", "crc32"), ("none.safetensors", "no such file")):
        status, output, error = just_romfs(tmp_path / model)
        assert (status, output, error.count("\n")) == (1, "", 1)
        assert model in error and message in error


def record(kind: int, payload: bytes) -> bytes:
    """A record as mpremote writes it."""
    return romfs.number(kind) + romfs.number(len(payload)) + payload


def image_of(payload: bytes) -> bytes:
    """An image of these records."""
    return romfs.MAGIC + romfs.number(len(payload)) + payload


def file_record(name: bytes, data: bytes = b"") -> bytes:
    """A file."""
    return record(romfs.FILE, romfs.number(len(name)) + name + record(romfs.VERBATIM, data))


def nested(depth: int) -> bytes:
    """Folders within each other, a file in the innermost."""
    inner = file_record(b"f")
    for _ in range(depth):
        inner = record(romfs.DIRECTORY, b"\1d" + inner)
    return image_of(inner)


@pytest.mark.parametrize("where", ["size of the image", "kind", "size", "name", "pointer"])
def test_a_number_without_an_end(where):
    endless = b"\xff" * 1_000_000 + b"\1"
    image = {
        "size of the image": romfs.MAGIC + endless,
        "kind": image_of(endless),
        "size": image_of(b"\1" + endless),
        "name": image_of(record(romfs.FILE, endless)),
        "pointer": image_of(record(romfs.FILE, b"\1f" + record(romfs.POINTER, endless))),
    }[where]
    start = time.process_time()
    with pytest.raises(Failure, match=r"^ROMFS image: the number at byte \d+ has more than 10 bytes$"):
        image_files(image)
    assert time.process_time() - start < 2


def test_numbers_with_leading_zeros():
    """MicroPython takes them, and our own builder writes them."""
    assert image_files(romfs.MAGIC + b"\x80" * 8 + romfs.number(len(file_record(b"f"))) + file_record(b"f"))


def test_folders_within_folders():
    deepest = "d/" * (romfs.DEEPEST - 1) + "f"
    assert list(image_files(nested(romfs.DEEPEST - 1))) == list(image_files(build_image({deepest: b""}))) == [deepest]
    for depth in (romfs.DEEPEST, 3000):
        with pytest.raises(Failure, match=r"an image takes fewer than 32$") as caught:
            image_files(nested(depth))
        assert len(str(caught.value)) < 300
        with pytest.raises(Failure, match=rf"lies in {depth} folders, an image takes fewer than 32$") as caught:
            build_image({"d/" * depth + "f": b""})
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (file_record(b"\xff"), "is not UTF-8"),
        (file_record(b"\xed\xb3\xbf"), "is not UTF-8"),
        (file_record(b"../x"), r"'\.\./x' is not a name for a file"),
        (file_record(b""), "'' is not a name for a file"),
        (file_record(b"a\0b"), r"'a\\x00b' is not a name for a file"),
        (file_record(b"a") + file_record(b"a"), "two files have the name 'a'"),
    ],
)
def test_names_in_an_image_that_none_can_have(records, words):
    with pytest.raises(Failure, match=f"^ROMFS image: .*{words}") as caught:
        image_files(image_of(records))
    assert "\n" not in str(caught.value)


def test_a_name_that_is_not_unicode(just_romfs, tmp_path):
    """As a file system of Linux may have it; the line can be printed."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / os.fsdecode(b"\xe9.txt")).touch()
    status, output, error = just_romfs(SHIPPED, folder)
    assert (status, output) == (1, "")
    assert error == "error: 'mine/\\udce9.txt' is not a name for a file of an image: it is not UTF-8\n"


@pytest.fixture
def links(tmp_path):
    """A folder with links to a file and a folder outside."""
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "far" / "deep" / "tool.py").write_bytes(b"tool")
    (tmp_path / "v2.py").write_bytes(b"second")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "main.py").symlink_to(tmp_path / "v2.py")
    (folder / "lib").symlink_to(tmp_path / "far")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "main.pyc").touch()
    return folder


def test_links_are_what_they_lead_to(links, tmp_path):
    """Under their own names, in an image that is asked for and in that of a board of kind qemu."""
    expected = {"main.py": b"second", "lib/deep/tool.py": b"tool"}
    named = romfs.given_files([links, links / "main.py", links / "lib"])
    assert {name: path.read_bytes() for name, path in named.items()} == {
        **{f"mine/{name}": data for name, data in expected.items()},
        **expected,
    }
    image = qemu.directory_image(links)
    found = {name: image[offset : offset + size] for name, (offset, size) in image_files(image).items()}
    assert found == expected


@pytest.mark.parametrize(
    "make", [romfs.given_files, lambda paths: qemu.directory_image(paths[0])], ids=["asked", "qemu"]
)
@pytest.mark.parametrize(
    "odd", ["a link to nothing", "a link to a folder that it lies in", "neither a file nor a folder"]
)
def test_what_an_image_cannot_hold_is_named(links, make, odd):
    path = links / "odd"
    if "nothing" in odd:
        path.symlink_to("nowhere")
    elif "lies in" in odd:
        path.symlink_to(links)
    else:
        os.mkfifo(path)
    with pytest.raises(Failure, match=rf"odd: {odd}$"):
        make([links])


def test_a_file_larger_than_an_image_is_not_read(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Failure, match=r"^a: .*sparse has 1,099,511,627,776 bytes, an image holds at most 268,435,455$"):
        build_image({"a": tmp_path / "sparse"})


def test_the_last_byte_of_a_partition(just_romfs, tmp_path):
    """An image that fills it fits; one that needs a byte more is refused and leaves the old image alone."""
    path = tmp_path / "out.romfs"
    assert just_romfs(SHIPPED, "--output", path)[0] == 0
    before = path.read_bytes()
    for size, status in ((len(before), 0), (len(before) - 1, 1)):
        (tmp_path / "boards" / "SMALL" / "partitions.csv").write_text(f"romfs, data, 0x8f, 0x100000, {size}\n")
        assert just_romfs(SHIPPED, "--board", "SMALL", "--output", path)[0] == status
        assert just_romfs(SHIPPED, "--size", size, "--output", path)[0] == status
    (tmp_path / "more.bin").write_bytes(bytes(17))
    status, output, error = just_romfs(SHIPPED, tmp_path / "more.bin", "--size", len(before), "--output", path)
    assert (status, output) == (1, "")
    assert re.search(rf"the image needs {len(before) + 48:,} bytes, --size has {len(before):,}: use a smaller", error)
    assert path.read_bytes() == before


SIZES = {"0": 0, "65536": 65536, " 0x10000": 65536, "64k": 65536, "64K": 65536, "2M": 2 << 20, "0x2m": 2 << 20}
NO_SIZES = ("", "K", "-1", "1G", "1.5M", "0x", "0xg", "1_0", "\u0663", "9" * 5000, "64 K")


def test_sizes():
    assert {text: parse_size(text) for text in SIZES} == SIZES
    assert [text for text in NO_SIZES if parse_size(text) is not None] == []


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size_is_named_wherever_one_is_asked_for(just_romfs, tmp_path, text):
    with pytest.raises(Failure, match=r"^--heap .*: must be a size like 160K"):
        qemu.heap_bytes(text)
    with (
        pytest.raises(Failure, match=r"^--heap .*: must be a size like 160K"),
        interpreters("unix", SHIPPED, SHIPPED, text),
    ):
        pass
    table = tmp_path / "boards" / "SMALL" / "partitions.csv"
    table.write_text(f"romfs, data, 0x8f, 0x100000, {text}\n")
    with pytest.raises(Failure, match=r"partitions\.csv: the line of romfs must be"):
        romfs.partition_size(table)
