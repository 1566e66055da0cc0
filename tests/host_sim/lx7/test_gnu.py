# SPDX-License-Identifier: MIT
"""`just lx7 check-toolchain`: its samples, and its reports about assemblers, with a stand-in for GNU as."""

import shlex
import sys
from pathlib import Path

import pytest

from host_sim.lx7 import isa, toolchain
from host_sim.lx7.isa import gnu
from host_sim.setup.shell import Failure
from tests.host_sim.lx7 import gnu_stand_in

# Lines that GNU as 2.40, configured for the ESP32-S3 by Espressif, accepted or refused.
TAKEN = [
    "any4 b3, b12",
    "all8 b5, b8",
    "extui a2, a11, 30, 2",
    "rsr.prid a7",
    "ee.vadds.s8.ld.incp q2, a10, q3, q2, q2",
    "ee.src.q.qup q3, q2, q3",
    "ee.ldf.128.ip f10, f5, f11, f6, a14, -48",
    "ee.fft.ams.s16.st.incp q2, q2, a8, a4, q2, q2, q2, 0",
    "ee.vmulas.s8.accx.ld.ip.qup q4, a9, -160, q4, q4, q1, q4",
]
REFUSED = {
    "any4 b11, b6": "register number out of range",
    "all4 b14, b10": "register number out of range",
    "any8 b12, b12": "register number out of range",
    "all8 b9, b7": "register number out of range",
    "extui a2, a11, 30, 5": "immediate operands sum to greater than 32",
    "rsr.255 a1": "unknown opcode",
    "wsr.prid a7": "unknown opcode",
    "xsr.prid a9": "unknown opcode",
    "ee.vadds.s8.ld.incp q2, a10, q2, q5, q0": "multiple writes",
    "ee.vmul.u8.ld.incp q7, a2, q7, q2, q6": "multiple writes",
    "ee.cmul.s16.ld.incp q2, a7, q2, q1, q4, 2": "multiple writes",
    "ee.vmulas.s8.accx.ld.ip.qup q4, a9, -160, q7, q0, q4, q1": "multiple writes",
    "ee.src.q.ld.xp q1, a8, a10, q1, q2": "multiple writes",
    "ee.src.q.qup q3, q3, q7": "multiple writes",
    "ee.vzip.8 q3, q3": "multiple writes",
    "ee.slcxxp.2q q1, q1, a11, a3": "multiple writes",
    "ee.srci.2q q4, q4, 0": "multiple writes",
    "ee.vldhbc.16.incp q1, q1, a12": "multiple writes",
    "ee.ldf.64.xp f6, f6, a8, a5": "multiple writes",
    "ee.ldf.128.ip f10, f5, f10, f6, a14, -48": "multiple writes",
    "ee.fft.r2bf.s16 q1, q1, q3, q6, 1": "multiple writes",
    "ee.fft.cmul.s16.ld.xp q3, a12, a6, q3, q0, q7, 2": "multiple writes",
    "ee.fft.ams.s16.ld.incp q5, a5, q3, q3, q1, q2, q5, 1": "multiple writes",
    "ee.fft.ams.s16.st.incp q3, q6, a7, a7, q5, q5, q1, 1": "multiple writes",
}


def parsed(line: str) -> tuple[isa.Instruction, list[int]]:
    """An instruction and its operands' values."""
    mnemonic, _, operands = line.partition(" ")
    values = [int(part.strip(" abfq")) for part in operands.split(",")]
    if mnemonic[:4] in ("rsr.", "wsr.", "xsr."):
        name = mnemonic[4:]
        values.append(isa.SPECIAL_REGISTERS[name] if name in isa.SPECIAL_REGISTERS else int(name))
        mnemonic = mnemonic[:3]
    return isa.instructions()[mnemonic], values


@pytest.fixture
def assembler(tmp_path):
    """Makes the stand-in, with further options."""
    toolchain.write_macros()
    features = ",".join(f"+{feature}" for feature in [*toolchain.FEATURES, *toolchain.ASSEMBLER_FEATURES])
    command = [sys.executable, gnu_stand_in.__file__, "--llvm-mc", toolchain.tools().llvm_mc, "--mattr", features]
    command += ["--macros", toolchain.MACROS]

    def make(*options: str) -> str:
        path: Path = tmp_path / "stand-in-as"
        path.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, [*command, *options]))} "$@"\n')
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.parametrize("line", TAKEN)
def test_what_gnu_as_takes(line):
    assert gnu.refusal(*parsed(line)) is None
    assert gnu_stand_in.refusal(line.split()[0], gnu_stand_in.operands_of(line.partition(" ")[2])) is None


@pytest.mark.parametrize("line", REFUSED)
def test_what_gnu_as_refuses(line):
    assert gnu.refusal(*parsed(line)).startswith(REFUSED[line])
    found = gnu_stand_in.refusal(line.split()[0], gnu_stand_in.operands_of(line.partition(" ")[2]))
    assert found.startswith(REFUSED[line])


def test_every_bit_of_every_operand_is_sampled():
    """Set in one sample and clear in another, unless GNU as accepts only one value."""
    without = []
    for i in isa.instructions().values():
        samples = gnu.samples(i)
        assert len(set(samples)) == len(samples)
        if not samples:
            without.append(i)
            continue
        words = [int.from_bytes(i.encode(values), "little") for values in samples]
        for k, operand in enumerate(i.operands):
            fields = {operand.field(word) for word in words}
            assert {operand.value(field) for field in fields} == {values[k] for values in samples}
            if i.mnemonic in gnu.SPECIAL and operand.name == "imm":
                # wsr and xsr have no prid.
                assert len(fields) == len(isa.SPECIAL_REGISTERS) - (i.mnemonic != "rsr")
                continue
            if i.mnemonic in ("any4", "all4", "any8", "all8") and operand.name == "bs":
                assert fields == set(range(0, 16, int(i.mnemonic[-1])))
                continue
            for bit in range((operand.count - 1).bit_length()):
                assert {field >> bit & 1 for field in fields} == {0, 1}, (i.mnemonic, operand.name, bit)
    assert all(any(operand.relative for operand in i.operands) for i in without) and len(without) < 50


def test_an_assembler_that_agrees(assembler):
    differences, count = toolchain.compare_with_assembler(assembler())
    assert differences == []
    assert count > 5000


def test_an_assembler_that_differs_or_refuses_more(assembler):
    """Neither stops the comparison: each such line is reported, and the rest is still compared."""
    wrong, strict = ["ssa8b", "add.n", "ee.andq"], ["ee.bitrev", "min"]
    differences, _ = toolchain.compare_with_assembler(assembler("--wrong", *wrong, "--strict", *strict))
    assert {line.split()[0] for line in differences if "refused" not in line} == set(wrong)
    refused = [line for line in differences if "refused by" in line and line.endswith(": never")]
    assert {line.split()[0] for line in refused} == set(strict)
    assert len([line for line in refused if line.startswith("ee.bitrev")]) == len(
        gnu.samples(isa.instructions()["ee.bitrev"])
    )


def test_an_assembler_that_does_not_work(tmp_path):
    """Its error is passed on in one line."""
    broken = tmp_path / "broken-as"
    broken.write_text("#!/bin/sh\necho 'Error: no licence' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(Failure, match=r"assembling with .*broken-as failed: .*no licence"):
        toolchain.compare_with_assembler(str(broken))


def test_an_assembler_that_is_not_there():
    with pytest.raises(Failure, match="no-such-as: not found; it comes with Espressif's tool chain"):
        toolchain.compare_with_assembler("no-such-as")
