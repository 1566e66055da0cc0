# SPDX-License-Identifier: MIT
"""A second implementation of every PIE instruction of the ESP32-S3, slow and simple, from the written reference alone.

It uses neither the simulator's table nor its C core, so the two agree only if both follow the reference.
A row names an instruction, its operands in assembly order and its parts; parts read the OLD state only and write
each destination once, so their order does not matter. All sums, shifts and clamps are Python integers.

Where the reference leaves the result open, `execute` raises Undefined and changes nothing:
- sel2 = 1, and a negative LDXQ/STXQ index;
- one register named as two destinations;
- an accumulator rail that silicon has not confirmed, see `accumulate`;
- a SAR whose effect is unmeasured and read in two ways, see `vmul`, `vsl` and `vsr`; so for `relu_count`.
What only the manual states (SRCMB counts, VSL.32 below 32 without saturation) follows the manual.
Not covered: CMUL, FFT, BITREV and the GPIO instructions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

Q_BITS = 128
HALF_BITS = 160  # QACC_L or QACC_H
ACCX_BITS = 40
WORD = 2**32


class Undefined(Exception):
    """The reference does not say what the instruction does here."""


# 1. Numbers


def limits(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest number of that many bits."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def clamp(value: int, bits: int, signed: bool = True) -> int:
    """satN and usatN of the reference."""
    low, high = limits(bits, signed)
    return min(max(value, low), high)


def unsigned(value: int, bits: int) -> int:
    """The low bits of a two's complement number, as 0..2^bits-1."""
    return value % 2**bits


def signed(value: int, bits: int) -> int:
    """The low bits of a number, as two's complement."""
    value %= 2**bits
    return value - 2**bits if value >= 2 ** (bits - 1) else value


def split(value: int, bits: int, count: int, is_signed: bool) -> list[int]:
    """Lanes of a wide number, lowest first."""
    read = signed if is_signed else unsigned
    return [read(value >> (bits * i), bits) for i in range(count)]


def join(values: list[int], bits: int) -> int:
    """The wide number with these lanes, lowest first, each wrapped to its bits."""
    return sum(unsigned(value, bits) << (bits * i) for i, value in enumerate(values))


def lanes(register: bytes, bits: int, is_signed: bool = True) -> list[int]:
    """Lanes of 16 bytes; lane 0 is at the lowest address."""
    return np.frombuffer(register, f"<{'i' if is_signed else 'u'}{bits // 8}").tolist()


# 2. State and memory


@dataclass
class State:
    """Registers that PIE instructions read or write.

    q: 8 registers of 16 bytes (any buffers; kept as bytes), byte 0 = bits 7:0
    qacc_l, qacc_h, ua_state: unsigned integers of 160, 160 and 128 bits
    accx: signed, 40 bits
    a: 16 unsigned 32-bit integers; f: 16 bit patterns of 32-bit floats
    """

    q: list[bytes] = field(default_factory=lambda: [bytes(16)] * 8)
    qacc_l: int = 0
    qacc_h: int = 0
    accx: int = 0
    sar: int = 0
    sar_byte: int = 0
    ua_state: int = 0
    fft_bit_width: int = 0
    a: list[int] = field(default_factory=lambda: [0] * 16)
    f: list[int] = field(default_factory=lambda: [0] * 16)

    def __post_init__(self):
        self.normalize()

    def normalize(self) -> None:
        """q as bytes and everything else as Python integers; ValueError where a register does not fit."""
        self.q = [bytes(register) for register in self.q]
        if [len(register) for register in self.q] != [16] * 8:
            raise ValueError("State.q: wanted 8 registers of 16 bytes")
        for name, bits in SCALAR_BITS.items():
            value = int(getattr(self, name))
            low, high = limits(bits, name == "accx")
            if not low <= value <= high:
                raise ValueError(f"State.{name}: {value:#x} is not in {low:#x}..{high:#x}")
            setattr(self, name, value)
        for name in ("a", "f"):
            values = [int(value) for value in getattr(self, name)]
            if len(values) != 16 or not all(0 <= value < WORD for value in values):
                raise ValueError(f"State.{name}: wanted 16 integers in 0..2^32-1")
            setattr(self, name, values)

    def copy(self) -> "State":
        """A state that shares nothing that can change."""
        return State(**{f.name: getattr(self, f.name) for f in fields(self)})

    def diff(self, other: "State") -> str:
        """The first difference, as "field lane: mine, not theirs"; empty if there is none."""
        for i, (mine, theirs) in enumerate(zip(self.q, other.q, strict=True)):
            for byte, (x, y) in enumerate(zip(bytes(mine), bytes(theirs), strict=True)):
                if x != y:
                    place = f"byte {byte} (halfword {byte // 2}, word {byte // 4})"
                    return f"q{i} {place}: {x:#04x}, not {y:#04x}; {bytes(mine).hex()}, not {bytes(theirs).hex()}"
        for name in SCALAR_BITS:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                lane = ""
                if name.startswith("qacc"):
                    bit = ((mine ^ theirs) & -(mine ^ theirs)).bit_length() - 1
                    lane = f" 20-bit lane {bit // 20} (40-bit lane {bit // 40})"
                return f"{name}{lane}: {mine:#x}, not {theirs:#x}"
        for name in ("a", "f"):
            for i, (x, y) in enumerate(zip(getattr(self, name), getattr(other, name), strict=True)):
                if x != y:
                    return f"{name}{i}: {x:#010x}, not {y:#010x}"
        return ""

    def qacc_lanes(self, bits: int, is_signed: bool = True) -> list[int]:
        """16 lanes of 20 bits or 8 lanes of 40 bits."""
        count = HALF_BITS // bits
        return split(self.qacc_l, bits, count, is_signed) + split(self.qacc_h, bits, count, is_signed)

    def set_qacc_lanes(self, values: list[int], bits: int) -> None:
        """The inverse of qacc_lanes; lanes wrap."""
        count = HALF_BITS // bits
        self.qacc_l, self.qacc_h = join(values[:count], bits), join(values[count:], bits)


SCALAR_BITS = {
    "qacc_l": HALF_BITS,
    "qacc_h": HALF_BITS,
    "accx": ACCX_BITS,
    "sar": 6,
    "sar_byte": 4,
    "ua_state": Q_BITS,
    "fft_bit_width": 4,
}


@dataclass
class Memory:
    """Bytes from an address on; IndexError outside."""

    base: int
    data: bytearray

    def offset(self, address: int, count: int) -> int:
        """Index of the first byte."""
        if not self.base <= address <= self.base + len(self.data) - count:
            raise IndexError(f"address {address:#x}: {count} bytes are not in {self.base:#x} + {len(self.data)}")
        return address - self.base

    def read(self, address: int, count: int) -> bytes:
        """`count` bytes."""
        start = self.offset(address, count)
        return bytes(self.data[start : start + count])

    def write(self, address: int, data: bytes) -> None:
        """Stores the bytes."""
        start = self.offset(address, len(data))
        self.data[start : start + len(data)] = data

    def copy(self) -> "Memory":
        """A memory of its own."""
        return Memory(self.base, bytearray(self.data))

    def diff(self, other: "Memory") -> str:
        """The first byte that differs; empty if there is none."""
        for i, (mine, theirs) in enumerate(zip(self.data, other.data, strict=True)):
            if mine != theirs:
                return f"memory at {self.base + i:#x}: {mine:#04x}, not {theirs:#04x}"
        return ""


# 3. One execution: old values in, writes out


class Step:
    """What a part of an instruction sees: operands and registers before it; writes are kept until the end."""

    def __init__(self, operands: dict[str, int], state: State, memory: Memory) -> None:
        self.operands, self.old, self.memory = operands, state, memory
        self.writes: dict[tuple[str, int], object] = {}
        self.stores: list[tuple[int, bytes]] = []

    def a(self, name: str) -> int:
        """Address register, unsigned."""
        return self.old.a[self.operands[name]]

    def q(self, name: str, bits: int, is_signed: bool = True) -> list[int]:
        """Lanes of a q register."""
        return lanes(self.old.q[self.operands[name]], bits, is_signed)

    def wide(self, *names: str) -> int:
        """q registers as one unsigned number, the first in the lowest bits."""
        return int.from_bytes(b"".join(self.old.q[self.operands[name]] for name in names), "little")

    def write(self, file: str, index: int, value: object) -> None:
        """Destination file[index], or the scalar register `file` with index 0."""
        if (file, index) in self.writes:
            raise Undefined(f"two destinations name {file}{index}")
        self.writes[file, index] = value

    def put_a(self, name: str, value: int) -> None:
        """Address register; wraps."""
        self.write("a", self.operands[name], unsigned(value, 32))

    def put_q(self, name: str, values: list[int], bits: int) -> None:
        """Lanes of a q register; each wraps."""
        self.put_wide(name, join(values, bits))

    def put_wide(self, name: str, value: int) -> None:
        """Low 128 bits into a q register."""
        self.write("q", self.operands[name], unsigned(value, Q_BITS).to_bytes(16, "little"))

    def put_qacc(self, values: list[int], bits: int) -> None:
        """All lanes of QACC; each wraps."""
        count = HALF_BITS // bits
        self.write("qacc_l", 0, join(values[:count], bits))
        self.write("qacc_h", 0, join(values[count:], bits))

    def put_bits(self, name: str, low: int, bits: int, value: int) -> None:
        """Some bits of a scalar register; the others keep."""
        mask = (2**bits - 1) << low
        value = (getattr(self.old, name) & ~mask) | (unsigned(value, bits) << low)
        self.write(name, 0, signed(value, ACCX_BITS) if name == "accx" else value)

    def address(self, bits: int, offset: int = 0) -> int:
        """as + offset, silently aligned to the access."""
        return unsigned(self.a("as") + offset, 32) & ~(bits // 8 - 1)

    def m(self, bits: int, offset: int = 0) -> int:
        """Memory at as + offset, unsigned."""
        return int.from_bytes(self.memory.read(self.address(bits, offset), bits // 8), "little")

    def put_m(self, bits: int, value: int, offset: int = 0) -> None:
        """Store at as + offset."""
        self.stores.append((self.address(bits, offset), value.to_bytes(bits // 8, "little")))

    def commit(self) -> None:
        """Stores first: they can fail, and then nothing has changed."""
        for address, data in self.stores:
            self.memory.write(address, data)
        for (file, index), value in self.writes.items():
            if file in ("q", "a", "f"):
                getattr(self.old, file)[index] = value
            else:
                setattr(self.old, file, value)


Part = Callable[[Step], None]

# 4. Parts: addresses, loads, stores


def plus(step: str | int) -> Part:
    """as += imm, as += ad, or as += a constant; the unaligned as counts."""

    def part(s: Step) -> None:
        amount = s.operands["imm"] if step == "imm" else s.a(step) if step == "ad" else step
        s.put_a("as", s.a("as") + amount)

    return part


def load(s: Step) -> None:
    """qu = m128(as)"""
    s.put_wide("qu", s.m(128))


def store(s: Step) -> None:
    """m128(as) = qv"""
    s.put_m(128, s.wide("qv"))


def load_half(lane: int) -> Part:
    """qu.d[lane] = m64(as); the other half keeps."""

    def part(s: Step) -> None:
        halves = s.q("qu", 64, False)
        halves[lane] = s.m(64)
        s.put_q("qu", halves, 64)

    return part


def store_half(lane: int) -> Part:
    """m64(as) = qv.d[lane]"""
    return lambda s: s.put_m(64, s.q("qv", 64, False)[lane])


def broadcast(bits: int) -> Part:
    """All lanes of qu = m(as)."""
    return lambda s: s.put_q("qu", [s.m(bits)] * (Q_BITS // bits), bits)


def load_halfword_pairs(s: Step) -> None:
    """VLDHBC: h0..h7 at as; qu = h0 h0 h1 h1 h2 h2 h3 h3, qu1 = h4 h4 ... h7 h7."""
    h = split(s.m(128), 16, 8, False)
    s.put_q("qu", [h[0], h[0], h[1], h[1], h[2], h[2], h[3], h[3]], 16)
    s.put_q("qu1", [h[4], h[4], h[5], h[5], h[6], h[6], h[7], h[7]], 16)


def load_offset(s: Step) -> None:
    """qu = m128(as + imm)"""
    s.put_wide("qu", s.m(128, s.operands["imm"]))


def store_offset(s: Step) -> None:
    """m128(as + imm) = qs"""
    s.put_m(128, s.wide("qs"), s.operands["imm"])


def move(s: Step) -> None:
    """qu = qs"""
    s.put_wide("qu", s.wide("qs"))


def lookup_offset(s: Step) -> int:
    """4 * qs.h[sel8]; no source says what a negative index does on silicon."""
    index = s.q("qs", 16)[s.operands["sel8"]]
    if index < 0:
        raise Undefined(f"index {index} in halfword {s.operands['sel8']} of qs is negative")
    return 4 * index


def load_indexed(s: Step) -> None:
    """qu.w[sel4] = m32(as + 4 * qs.h[sel8]); other words keep."""
    words = s.q("qu", 32)
    words[s.operands["sel4"]] = s.m(32, lookup_offset(s))
    s.put_q("qu", words, 32)


def store_indexed(s: Step) -> None:
    """m32(as + 4 * qs.h[sel8]) = qv.w[sel4]"""
    s.put_m(32, s.q("qv", 32, False)[s.operands["sel4"]], lookup_offset(s))


def load_floats(count: int) -> Part:
    """fu0 (lowest word), fu1, ... = memory at as"""

    def part(s: Step) -> None:
        for i, word in enumerate(split(s.m(32 * count), 32, count, False)):
            s.write("f", s.operands[f"fu{i}"], word)

    return part


def store_floats(count: int) -> Part:
    """memory at as = fv0 (lowest word), fv1, ..."""
    return lambda s: s.put_m(32 * count, join([s.old.f[s.operands[f"fv{i}"]] for i in range(count)], 32))


def load_usar(s: Step) -> None:
    """qu = m128(as); SAR_BYTE = as[3:0] before the increment"""
    load(s)
    s.put_bits("sar_byte", 0, 4, s.a("as"))


def load_bits(name: str, low: int, bits: int, access: int) -> Part:
    """name[low + bits - 1 : low] = low bits of m(as); the rest keeps."""
    return lambda s: s.put_bits(name, low, bits, s.m(access))


def store_bits(name: str, low: int, bits: int, access: int) -> Part:
    """m(as) = zero-extended name[low + bits - 1 : low]"""
    return lambda s: s.put_m(access, unsigned(getattr(s.old, name) >> low, bits))


def load_qacc(bits: int, is_signed: bool) -> Part:
    """QACC lanes = extended lanes of m128(as)."""
    return lambda s: s.put_qacc(split(s.m(128), bits, Q_BITS // bits, is_signed), qacc_bits(bits))


# 5. Parts: accumulators


def qacc_bits(bits: int) -> int:
    """20-bit accumulators for bytes, 40-bit ones for halfwords."""
    return {8: 20, 16: 40}[bits]


def move_qacc(bits: int, is_signed: bool) -> Part:
    """QACC lanes = extended lanes of qs."""
    return lambda s: s.put_qacc(s.q("qs", bits, is_signed), qacc_bits(bits))


def zero_q(s: Step) -> None:
    """qa = 0"""
    s.put_wide("qa", 0)


def zero_qacc(s: Step) -> None:
    """QACC = 0"""
    s.put_qacc([0] * 16, 20)


def zero_accx(s: Step) -> None:
    """ACCX = 0"""
    s.write("accx", 0, 0)


# Rails that silicon has shown.
CONFIRMED_RAILS = {
    ("vmulas", "s8", "qacc"): ("low", "high"),
    ("vmulas", "u8", "qacc"): ("high",),
    ("vmulas", "s8", "accx"): ("high",),
    ("vmulas", "s16", "accx"): ("high",),
}


def accumulate(total: int, bits: int, is_signed: bool, confirmed: tuple[str, ...]) -> int:
    """`total` clamped to the rails; Undefined where it depends on a rail that silicon has not shown.

    Such a high rail is open only above 2^n - 1: at it every reading agrees. Such a low rail is open at -2^n
    already, because one reading of it is -2^n + 1. Unsigned sums have no low rail: they only grow.
    """
    low, high = limits(bits, is_signed)
    if total > high and "high" not in confirmed:
        raise Undefined(f"{total:#x} is above the unconfirmed rail {high:#x}")
    if is_signed and total <= low and "low" not in confirmed:
        raise Undefined(f"{total:#x} reaches the unconfirmed rail {low:#x}")
    return clamp(total, bits, is_signed)


def add_products(s: Step, operation: str, kind: str, x: list[int], y: list[int]) -> None:
    """QACC[i] = sat(QACC[i] + x[i] * y[i])"""
    is_signed, bits = kind[0] == "s", qacc_bits(int(kind[1:]))
    confirmed = CONFIRMED_RAILS.get((operation, kind, "qacc"), ())
    before = s.old.qacc_lanes(bits, is_signed)
    totals = [lane + a * b for lane, a, b in zip(before, x, y, strict=True)]
    s.put_qacc([accumulate(total, bits, is_signed, confirmed) for total in totals], bits)


def vmulas_qacc(kind: str) -> Part:
    """QACC[i] = sat(QACC[i] + qx[i] * qy[i])"""
    is_signed, bits = kind[0] == "s", int(kind[1:])
    return lambda s: add_products(s, "vmulas", kind, s.q("qx", bits, is_signed), s.q("qy", bits, is_signed))


def vsmulas_qacc(kind: str, selector: str) -> Part:
    """QACC[i] = sat(QACC[i] + qx[i] * qy[sel])"""
    bits = int(kind[1:])

    def part(s: Step) -> None:
        scalar = s.q("qy", bits)[s.operands[selector]]
        add_products(s, "vsmulas", kind, s.q("qx", bits), [scalar] * (Q_BITS // bits))

    return part


def vmulas_accx(kind: str) -> Part:
    """ACCX = sat40(ACCX + sum of qx[i] * qy[i]), clamped once."""
    is_signed, bits = kind[0] == "s", int(kind[1:])
    confirmed = CONFIRMED_RAILS.get(("vmulas", kind, "accx"), ())

    def part(s: Step) -> None:
        before = s.old.accx if is_signed else unsigned(s.old.accx, ACCX_BITS)
        products = sum(a * b for a, b in zip(s.q("qx", bits, is_signed), s.q("qy", bits, is_signed), strict=True))
        after = accumulate(before + products, ACCX_BITS, is_signed, confirmed)
        s.write("accx", 0, signed(after, ACCX_BITS))

    return part


def refuse_sel2(s: Step) -> None:
    """sel2 = 1 has no published meaning."""
    if s.operands["sel2"]:
        raise Undefined("sel2 is 1")


def srcmb(bits: int, count_bits: int) -> Part:
    """QACC[i] >>= as[count], arithmetic, written back unclamped; qu[i] = sat(QACC[i])"""

    def part(s: Step) -> None:
        refuse_sel2(s)
        count = unsigned(s.a("as"), count_bits)
        shifted = [lane >> count for lane in s.old.qacc_lanes(qacc_bits(bits))]
        s.put_qacc(shifted, qacc_bits(bits))
        s.put_q("qu", [clamp(value, bits) for value in shifted], bits)

    return part


def srs_accx(s: Step) -> None:
    """ACCX >>= as[5:0], arithmetic, written back; au = sat32(ACCX)"""
    refuse_sel2(s)
    shifted = s.old.accx >> unsigned(s.a("as"), 6)
    s.write("accx", 0, shifted)
    s.put_a("au", clamp(shifted, 32))


# 6. Parts: lane by lane


def bitwise(function: Callable[[int, int], int]) -> Part:
    """qa = function(qx, qy) on all 128 bits"""
    return lambda s: s.put_wide("qa", function(s.wide("qx"), s.wide("qy")))


def notq(s: Step) -> None:
    """qa = NOT qx"""
    s.put_wide("qa", ~s.wide("qx"))


def lanewise(bits: int, function: Callable[[int, int], int]) -> Part:
    """qa[i] = function(qx[i], qy[i]), signed lanes"""
    return lambda s: s.put_q("qa", list(map(function, s.q("qx", bits), s.q("qy", bits))), bits)


def vadds(bits: int) -> Part:
    """qa[i] = sat(qx[i] + qy[i])"""
    return lanewise(bits, lambda x, y: clamp(x + y, bits))


def vsubs(bits: int) -> Part:
    """qa[i] = sat(qx[i] - qy[i])"""
    return lanewise(bits, lambda x, y: clamp(x - y, bits))


def vmax(bits: int) -> Part:
    """qa[i] = the larger one"""
    return lanewise(bits, max)


def vmin(bits: int) -> Part:
    """qa[i] = the smaller one"""
    return lanewise(bits, min)


# -1 is all ones.
COMPARISONS = {
    "eq": lambda x, y: -1 if x == y else 0,
    "gt": lambda x, y: -1 if x > y else 0,
    "lt": lambda x, y: -1 if x < y else 0,
}


def vmul(bits: int, is_signed: bool) -> Part:
    """qz[i] = low bits of (qx[i] * qy[i]) >> SAR; wraps, no rounding.

    SAR above 31: unsigned products vanish in every reading. Signed ones are sign-filled in the manual, but on
    silicon S8 gives 0 at SAR = 32, which is all that was measured; all else is Undefined, whatever the operands.
    """

    def part(s: Step) -> None:
        sar = s.old.sar
        if is_signed and sar > 31 and not (bits == 8 and sar == 32):
            raise Undefined(f"signed VMUL with {bits}-bit lanes and SAR = {sar} is unmeasured")
        products = [x * y for x, y in zip(s.q("qx", bits, is_signed), s.q("qy", bits, is_signed), strict=True)]
        s.put_q("qz", [0 if sar > 31 else product >> sar for product in products], bits)

    return part


def relu_count(s: Step, bits: int) -> int:
    """ay[4:0] for bytes, ay[5:0] for halfwords (manual); above 31 Undefined, as for VMUL."""
    count = unsigned(s.a("ay"), 5 if bits == 8 else 6)
    if count > 31:
        raise Undefined(f"a shift of {count} is unmeasured")
    return count


def vrelu(bits: int) -> Part:
    """qs[i] = (qs[i] * sign-extended low bits of ax) >> count where qs[i] <= 0; low bits"""

    def part(s: Step) -> None:
        factor, count = signed(s.a("ax"), bits), relu_count(s, bits)
        s.put_q("qs", [(x * factor) >> count if x <= 0 else x for x in s.q("qs", bits)], bits)

    return part


def vprelu(bits: int) -> Part:
    """qz[i] = (qx[i] * qy[i]) >> count where qx[i] <= 0, else qx[i]; low bits"""

    def part(s: Step) -> None:
        count, pairs = relu_count(s, bits), zip(s.q("qx", bits), s.q("qy", bits), strict=True)
        s.put_q("qz", [(x * y) >> count if x <= 0 else x for x, y in pairs], bits)

    return part


def vsl(s: Step) -> None:
    """qa.w[i] = qs.w[i] << SAR, wrapping below 32 (manual); at 32 silicon saturates; above, Undefined."""
    sar = s.old.sar
    if sar > 32:
        raise Undefined(f"VSL.32 with SAR = {sar} is unmeasured")
    shifted = [x << sar for x in s.q("qs", 32)]
    s.put_q("qa", [clamp(x, 32) for x in shifted] if sar == 32 else shifted, 32)


def vsr(s: Step) -> None:
    """qa.w[i] = qs.w[i] >> SAR, arithmetic; at 32 silicon gives 0 even for negative lanes; above, Undefined."""
    sar = s.old.sar
    if sar > 32:
        raise Undefined(f"VSR.32 with SAR = {sar} is unmeasured")
    s.put_q("qa", [0 if sar == 32 else x >> sar for x in s.q("qs", 32)], 32)


# 7. Parts: permutations and byte shifts


def vzip(bits: int) -> Part:
    """X = qs0, Y = qs1: qs0, qs1 = the halves of X0 Y0 X1 Y1 ..."""

    def part(s: Step) -> None:
        mixed = [lane for pair in zip(s.q("qs0", bits), s.q("qs1", bits), strict=True) for lane in pair]
        s.put_q("qs0", mixed[: len(mixed) // 2], bits)
        s.put_q("qs1", mixed[len(mixed) // 2 :], bits)

    return part


def vunzip(bits: int) -> Part:
    """X = qs0, Y = qs1: qs0 = even lanes of X, then of Y; qs1 = the odd ones"""

    def part(s: Step) -> None:
        both = s.q("qs0", bits) + s.q("qs1", bits)
        s.put_q("qs0", both[0::2], bits)
        s.put_q("qs1", both[1::2], bits)

    return part


def move_to_a(s: Step) -> None:
    """au = qs.w[sel4]"""
    s.put_a("au", s.q("qs", 32)[s.operands["sel4"]])


def move_to_q(s: Step) -> None:
    """qu.w[sel4] = as; other words keep"""
    words = s.q("qu", 32)
    words[s.operands["sel4"]] = s.a("as")
    s.put_q("qu", words, 32)


def window(s: Step) -> int:
    """low128({qs1, qs0} >> 8 * SAR_BYTE)"""
    return unsigned(s.wide("qs0", "qs1") >> (8 * s.old.sar_byte), Q_BITS)


def src(destination: str) -> Part:
    """destination = the window of qs1:qs0 at SAR_BYTE"""
    return lambda s: s.put_wide(destination, window(s))


def src_advance(s: Step) -> None:
    """qs0 = qs1"""
    s.put_wide("qs0", s.wide("qs1"))


def store_window(s: Step) -> None:
    """m128(as) = the window of qs1:qs0 at SAR_BYTE"""
    s.put_m(128, window(s))


def shift_pair(direction: str, count: Callable[[Step], int]) -> Part:
    """qs1:qs0 shifted by count + 1 bytes, zero fill"""

    def part(s: Step) -> None:
        pair, bits = s.wide("qs0", "qs1"), 8 * (count(s) + 1)
        pair = pair << bits if direction == "left" else pair >> bits
        s.put_wide("qs0", pair)
        s.put_wide("qs1", pair >> Q_BITS)

    return part


def pair_immediate(s: Step) -> int:
    """sar16"""
    return s.operands["sar16"]


def pair_register(s: Step) -> int:
    """as[3:0]"""
    return unsigned(s.a("as"), 4)


# 8. Parts: user and special registers


def read_user(name: str, low: int, bits: int) -> Part:
    """ar = zero-extended bits of the register"""
    return lambda s: s.put_a("ar", unsigned(getattr(s.old, name) >> low, bits))


def write_user(name: str, low: int, bits: int) -> Part:
    """bits of the register = low bits of at"""
    return lambda s: s.put_bits(name, low, bits, s.a("at"))


# Name: register, lowest bit, bits.
USER_REGISTERS = {
    "accx_0": ("accx", 0, 32),
    "accx_1": ("accx", 32, 8),
    **{f"qacc_h_{n}": ("qacc_h", 32 * n, 32) for n in range(5)},
    **{f"qacc_l_{n}": ("qacc_l", 32 * n, 32) for n in range(5)},
    "sar_byte": ("sar_byte", 0, 4),
    "fft_bit_width": ("fft_bit_width", 0, 4),
    **{f"ua_state_{n}": ("ua_state", 32 * n, 32) for n in range(4)},
}

# 9. The rows

# Byte values of the immediates.
IMM_128 = range(-2048, 2032 + 1, 16)
IMM_MAC = range(-512, 496 + 1, 16)
IMM_64 = range(-1024, 1016 + 1, 8)
IMM_32 = range(-512, 508 + 1, 4)
IMM_OFFSET = range(-128, 112 + 1, 16)

OPERANDS: dict[str, tuple[str, ...]] = {}
IMMEDIATES: dict[str, range] = {}
PARTS: dict[str, tuple[Part, ...]] = {}


def row(mnemonic: str, operands: str, *parts: Part, imm: range | None = None) -> None:
    """Enters an instruction; operands in assembly order."""
    assert mnemonic not in PARTS and (imm is not None) == ("imm" in operands.split()), mnemonic
    OPERANDS[mnemonic], PARTS[mnemonic] = tuple(operands.split()), parts
    if imm is not None:
        IMMEDIATES[mnemonic] = imm


def rows_2_1() -> None:
    """Loads, stores, moves."""
    row("ee.vld.128.ip", "qu as imm", load, plus("imm"), imm=IMM_128)
    row("ee.vld.128.xp", "qu as ad", load, plus("ad"))
    row("ee.vst.128.ip", "qv as imm", store, plus("imm"), imm=IMM_128)
    row("ee.vst.128.xp", "qv as ad", store, plus("ad"))
    for half, lane in (("l", 0), ("h", 1)):
        row(f"ee.vld.{half}.64.ip", "qu as imm", load_half(lane), plus("imm"), imm=IMM_64)
        row(f"ee.vld.{half}.64.xp", "qu as ad", load_half(lane), plus("ad"))
        row(f"ee.vst.{half}.64.ip", "qv as imm", store_half(lane), plus("imm"), imm=IMM_64)
        row(f"ee.vst.{half}.64.xp", "qv as ad", store_half(lane), plus("ad"))
    for bits, imm in ((8, range(0, 127 + 1)), (16, range(0, 254 + 1, 2)), (32, IMM_32)):
        row(f"ee.vldbc.{bits}", "qu as", broadcast(bits))
        row(f"ee.vldbc.{bits}.ip", "qu as imm", broadcast(bits), plus("imm"), imm=imm)
        row(f"ee.vldbc.{bits}.xp", "qu as ad", broadcast(bits), plus("ad"))
    row("ee.vldhbc.16.incp", "qu qu1 as", load_halfword_pairs, plus(16))
    row("ld.qr", "qu as imm", load_offset, imm=IMM_OFFSET)
    row("st.qr", "qs as imm", store_offset, imm=IMM_OFFSET)
    row("mv.qr", "qu qs", move)
    row("ee.ldxq.32", "qu qs as sel4 sel8", load_indexed)
    row("ee.stxq.32", "qv qs as sel4 sel8", store_indexed)
    for bits, imm in ((128, IMM_OFFSET), (64, IMM_64)):
        words = bits // 32
        fu = " ".join(f"fu{i}" for i in reversed(range(words)))
        fv = " ".join(f"fv{i}" for i in reversed(range(words)))
        row(f"ee.ldf.{bits}.ip", f"{fu} as imm", load_floats(words), plus("imm"), imm=imm)
        row(f"ee.ldf.{bits}.xp", f"{fu} as ad", load_floats(words), plus("ad"))
        row(f"ee.stf.{bits}.ip", f"{fv} as imm", store_floats(words), plus("imm"), imm=imm)
        row(f"ee.stf.{bits}.xp", f"{fv} as ad", store_floats(words), plus("ad"))


def rows_2_2() -> None:
    """Clears and moves into QACC."""
    row("ee.zero.q", "qa", zero_q)
    row("ee.zero.qacc", "", zero_qacc)
    row("ee.zero.accx", "", zero_accx)
    for kind in ("s8", "s16", "u8", "u16"):
        row(f"ee.mov.{kind}.qacc", "qs", move_qacc(int(kind[1:]), kind[0] == "s"))


def rows_2_3() -> None:
    """Multiply-accumulate. QUP also moves the window of qs1:qs0 into qs0."""
    for kind in ("s8", "s16", "u8", "u16"):
        bits = int(kind[1:])
        for target, mac in (("accx", vmulas_accx(kind)), ("qacc", vmulas_qacc(kind))):
            name = f"ee.vmulas.{kind}.{target}"
            row(name, "qx qy", mac)
            row(f"{name}.ld.ip", "qu as imm qx qy", mac, load, plus("imm"), imm=IMM_MAC)
            row(f"{name}.ld.xp", "qu as ad qx qy", mac, load, plus("ad"))
            row(f"{name}.ld.ip.qup", "qu as imm qx qy qs0 qs1", mac, load, plus("imm"), src("qs0"), imm=IMM_MAC)
            row(f"{name}.ld.xp.qup", "qu as ad qx qy qs0 qs1", mac, load, plus("ad"), src("qs0"))
        name, mac, step = f"ee.vmulas.{kind}.qacc.ldbc.incp", vmulas_qacc(kind), plus(bits // 8)
        row(name, "qu as qx qy", mac, broadcast(bits), step)
        row(f"{name}.qup", "qu as qx qy qs0 qs1", mac, broadcast(bits), step, src("qs0"))
    for kind, selector in (("s8", "sel16"), ("s16", "sel8")):
        mac = vsmulas_qacc(kind, selector)
        row(f"ee.vsmulas.{kind}.qacc", f"qx qy {selector}", mac)
        row(f"ee.vsmulas.{kind}.qacc.ld.incp", f"qu as qx qy {selector}", mac, load, plus(16))


def rows_2_4() -> None:
    """Reading and loading accumulators."""
    row("ee.srcmb.s8.qacc", "qu as sel2", srcmb(8, count_bits=5))
    row("ee.srcmb.s16.qacc", "qu as sel2", srcmb(16, count_bits=6))
    row("ee.srs.accx", "au as sel2", srs_accx)
    for half in ("qacc_l", "qacc_h"):
        low, high = (half, 0, 128, 128), (half, 128, 32, 32)
        row(f"ee.st.{half}.l.128.ip", "as imm", store_bits(*low), plus("imm"), imm=IMM_128)
        row(f"ee.st.{half}.h.32.ip", "as imm", store_bits(*high), plus("imm"), imm=IMM_32)
        row(f"ee.ld.{half}.l.128.ip", "as imm", load_bits(*low), plus("imm"), imm=IMM_128)
        row(f"ee.ld.{half}.h.32.ip", "as imm", load_bits(*high), plus("imm"), imm=IMM_32)
    for kind in ("s8", "s16", "u8", "u16"):
        extend = load_qacc(int(kind[1:]), kind[0] == "s")
        row(f"ee.ldqa.{kind}.128.ip", "as imm", extend, plus("imm"), imm=IMM_128)
        row(f"ee.ldqa.{kind}.128.xp", "as ad", extend, plus("ad"))
    row("ee.st.accx.ip", "as imm", store_bits("accx", 0, 40, 64), plus("imm"), imm=IMM_64)
    row("ee.ld.accx.ip", "as imm", load_bits("accx", 0, 40, 64), plus("imm"), imm=IMM_64)
    row("ee.st.ua_state.ip", "as imm", store_bits("ua_state", 0, 128, 128), plus("imm"), imm=IMM_128)
    row("ee.ld.ua_state.ip", "as imm", load_bits("ua_state", 0, 128, 128), plus("imm"), imm=IMM_128)


def rows_2_5_to_2_8() -> None:
    """Logic, saturating add and subtract, multiply with shift, max and min, compare, ReLU."""
    row("ee.andq", "qa qx qy", bitwise(lambda x, y: x & y))
    row("ee.orq", "qa qx qy", bitwise(lambda x, y: x | y))
    row("ee.xorq", "qa qx qy", bitwise(lambda x, y: x ^ y))
    row("ee.notq", "qa qx", notq)

    def with_memory(name: str, destination: str, operation: Part) -> None:
        """The instruction alone, with a load and with a store."""
        row(name, f"{destination} qx qy", operation)
        row(f"{name}.ld.incp", f"qu as {destination} qx qy", operation, load, plus(16))
        row(f"{name}.st.incp", f"qv as {destination} qx qy", operation, store, plus(16))

    for bits in (8, 16, 32):
        with_memory(f"ee.vadds.s{bits}", "qa", vadds(bits))
        with_memory(f"ee.vsubs.s{bits}", "qa", vsubs(bits))
        with_memory(f"ee.vmax.s{bits}", "qa", vmax(bits))
        with_memory(f"ee.vmin.s{bits}", "qa", vmin(bits))
        for name, comparison in COMPARISONS.items():
            row(f"ee.vcmp.{name}.s{bits}", "qa qx qy", lanewise(bits, comparison))
    for bits in (8, 16):
        with_memory(f"ee.vmul.u{bits}", "qz", vmul(bits, False))
        with_memory(f"ee.vmul.s{bits}", "qz", vmul(bits, True))
        row(f"ee.vrelu.s{bits}", "qs ax ay", vrelu(bits))
        row(f"ee.vprelu.s{bits}", "qz qx qy ay", vprelu(bits))


def rows_2_9() -> None:
    """Shifts, permutes, unaligned."""
    row("ee.vsl.32", "qa qs", vsl)
    row("ee.vsr.32", "qa qs", vsr)
    for bits in (8, 16, 32):
        row(f"ee.vzip.{bits}", "qs0 qs1", vzip(bits))
        row(f"ee.vunzip.{bits}", "qs0 qs1", vunzip(bits))
    row("ee.movi.32.a", "qs au sel4", move_to_a)
    row("ee.movi.32.q", "qu as sel4", move_to_q)
    row("ee.ld.128.usar.ip", "qu as imm", load_usar, plus("imm"), imm=IMM_128)
    row("ee.ld.128.usar.xp", "qu as ad", load_usar, plus("ad"))
    row("ee.src.q", "qa qs0 qs1", src("qa"))
    row("ee.src.q.qup", "qa qs0 qs1", src("qa"), src_advance)
    row("ee.src.q.ld.ip", "qu as imm qs0 qs1", src("qs0"), load, plus("imm"), imm=IMM_128)
    row("ee.src.q.ld.xp", "qu as ad qs0 qs1", src("qs0"), load, plus("ad"))
    row("ee.srcq.128.st.incp", "qs0 qs1 as", store_window, plus(16))
    row("ee.srci.2q", "qs1 qs0 sar16", shift_pair("right", pair_immediate))
    row("ee.slci.2q", "qs1 qs0 sar16", shift_pair("left", pair_immediate))
    row("ee.slcxxp.2q", "qs1 qs0 as ad", shift_pair("left", pair_register), plus("ad"))
    row("ee.srcxxp.2q", "qs1 qs0 as ad", shift_pair("right", pair_register), plus("ad"))


def rows_2_10() -> None:
    """User and special registers."""
    for name, place in USER_REGISTERS.items():
        row(f"rur.{name}", "ar", read_user(*place))
        row(f"wur.{name}", "at", write_user(*place))
    row("wsr.sar", "at", write_user("sar", 0, 6))


for enter_rows in (rows_2_1, rows_2_2, rows_2_3, rows_2_4, rows_2_5_to_2_8, rows_2_9, rows_2_10):
    enter_rows()

MNEMONICS = frozenset(PARTS)

SELECTORS = {"sel2": range(2), "sel4": range(4), "sel8": range(8), "sel16": range(16), "sar16": range(16)}
REGISTERS = {"q": range(8), "a": range(16), "f": range(16)}


def choices(mnemonic: str, operand: str) -> range:
    """Values that the operand can take: register numbers, selectors, byte values of immediates."""
    if operand == "imm":
        return IMMEDIATES[mnemonic]
    return SELECTORS.get(operand) or REGISTERS[operand[0]]


def execute(mnemonic: str, operands: dict[str, int], state: State, memory: Memory) -> None:
    """Runs one instruction.

    operands: by the reference's names, in any order; immediates as written in assembly, under "imm".
    Raises Undefined where the reference is silent, IndexError for an address outside memory and ValueError for
    operands that cannot be encoded; state and memory are then as before.
    """
    if mnemonic not in PARTS:
        raise ValueError(f"{mnemonic}: not an instruction of this oracle")
    if set(operands) != set(OPERANDS[mnemonic]):
        raise ValueError(f"{mnemonic}: operands are {', '.join(OPERANDS[mnemonic])}, not {', '.join(operands)}")
    for name, value in operands.items():
        if value not in choices(mnemonic, name):
            raise ValueError(f"{mnemonic}: {name} = {value} is not in {choices(mnemonic, name)}")
    state.normalize()
    step = Step(operands, state, memory)
    try:
        for part in PARTS[mnemonic]:
            part(step)
    except Undefined as error:
        raise Undefined(f"{mnemonic}: {error}") from None
    step.commit()


# 10. Random cases

BASE, SIZE = 0x3FC90000, 512  # data SRAM; accesses stay 128 bytes inside
EXTREME_WORDS = (0, 1, 7, 31, 32, 63, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 2**31 - 1, 2**31, WORD - 1)
EXTREME_SARS = (0, 7, 8, 16, 31, 32, 33, 63)
# `as` is data or a count here and an address everywhere else.
AS_IS_NO_ADDRESS = {"ee.srcmb.s8.qacc", "ee.srcmb.s16.qacc", "ee.srs.accx", "ee.movi.32.q"}
AS_IS_NO_ADDRESS |= {"ee.slcxxp.2q", "ee.srcxxp.2q"}


def destinations(mnemonic: str) -> set[str]:
    """Operands of q and f registers that the instruction writes; no two may be the same register."""
    names = set(OPERANDS[mnemonic]) & {"qu", "qu1", "qa", "qz", "fu0", "fu1", "fu2", "fu3"}
    if mnemonic.endswith(".qup") or mnemonic.startswith("ee.src.q.ld"):
        names.add("qs0")
    if ".2q" in mnemonic or "zip" in mnemonic:
        names |= {"qs0", "qs1"}
    if mnemonic.startswith("ee.vrelu"):
        names.add("qs")
    return names


def lane_bits(mnemonic: str) -> int:
    """Width of the lanes that the mnemonic names; 8 if none."""
    words = {word.lstrip("su") for word in mnemonic.split(".")}
    return next((bits for bits in (8, 16, 32) if str(bits) in words), 8)


def pick(rng: np.random.Generator, values: Sequence[int]) -> int:
    """One of them."""
    return int(values[rng.integers(len(values))])


def edges(bits: int, is_signed: bool = True) -> list[int]:
    """Numbers at which something can go wrong."""
    low, high = limits(bits, is_signed)
    return [low, low + 1, high - 1, high, 0, 1, -1] if is_signed else [0, 1, high - 1, high, (high + 1) // 2]


def random_operands(rng: np.random.Generator, mnemonic: str, extreme: bool) -> dict[str, int]:
    """Operands that can be encoded, destinations distinct; sel2 is 1 in some extreme cases only."""
    operands = {name: pick(rng, choices(mnemonic, name)) for name in OPERANDS[mnemonic]}
    apart = sorted(destinations(mnemonic))
    for name, register in zip(apart, rng.permutation(8), strict=False):
        operands[name] = int(register) + (pick(rng, (0, 8)) if name[0] == "f" else 0)
    if "sel2" in operands:
        operands["sel2"] = int(extreme and rng.random() < 0.125)
    return operands


def random_number(rng: np.random.Generator, bits: int) -> int:
    """Uniform in 0..2^bits-1."""
    return int.from_bytes(rng.bytes((bits + 7) // 8), "little") % 2**bits


def random_q(rng: np.random.Generator, bits: int, extreme: bool) -> bytes:
    """A q register; in extreme cases mostly of edges."""
    if not extreme or rng.random() < 0.3:
        return rng.bytes(16)
    return join([pick(rng, edges(bits)) for _ in range(Q_BITS // bits)], bits).to_bytes(16, "little")


def random_state(rng: np.random.Generator, mnemonic: str, extreme: bool) -> State:
    """Registers without regard to the operands."""
    bits, acc = lane_bits(mnemonic), 40 if lane_bits(mnemonic) == 16 else 20
    words = [pick(rng, EXTREME_WORDS) if extreme and rng.random() < 0.7 else random_number(rng, 32) for _ in range(16)]
    state = State(
        q=[random_q(rng, bits, extreme) for _ in range(8)],
        qacc_l=random_number(rng, HALF_BITS),
        qacc_h=random_number(rng, HALF_BITS),
        accx=signed(random_number(rng, ACCX_BITS), ACCX_BITS),
        sar=pick(rng, EXTREME_SARS) if extreme else pick(rng, range(32)),
        sar_byte=pick(rng, (0, 1, 15)) if extreme else pick(rng, range(16)),
        ua_state=random_number(rng, Q_BITS),
        fft_bit_width=pick(rng, range(16)),
        a=words,
        f=[random_number(rng, 32) for _ in range(16)],
    )
    if extreme:
        state.set_qacc_lanes([pick(rng, edges(acc)) for _ in range(2 * HALF_BITS // acc)], acc)
        state.accx = pick(rng, edges(ACCX_BITS) + edges(32))
    return state


def point_at_memory(
    rng: np.random.Generator, mnemonic: str, operands: dict[str, int], state: State, extreme: bool
) -> None:
    """Sets as so that the access lands in memory, at any alignment."""
    target = BASE + 128 + pick(rng, range(SIZE - 256))
    if rng.random() < 0.25:
        target &= ~15
    if mnemonic in ("ld.qr", "st.qr"):
        target -= operands["imm"]
    if "sel8" in operands and "qs" in operands:
        number, lane = operands["qs"], operands["sel8"]
        halfwords = lanes(state.q[number], 16)
        halfwords[lane] = pick(rng, edges(16)) if extreme else pick(rng, range(2**15))
        state.q[number] = join(halfwords, 16).to_bytes(16, "little")
        target -= 4 * halfwords[lane]
    state.a[operands["as"]] = unsigned(target, 32)


def near_rails(rng: np.random.Generator, mnemonic: str, operands: dict[str, int], state: State, memory: Memory) -> None:
    """Accumulators of a MAC such that some sums land on a rail, one short of it or beyond."""
    is_signed = ".s" in mnemonic
    probe = state.copy()
    probe.qacc_l = probe.qacc_h = probe.accx = 0
    execute(mnemonic, operands, probe, memory.copy())

    def before(product: int, bits: int) -> int:
        low, high = limits(bits, is_signed)
        rail = pick(rng, (low, high)) if is_signed else high
        return min(max(rail - product + pick(rng, (-2, -1, 0, 0, 1, 100)), low), high)

    if ".accx" in mnemonic:
        product = probe.accx if is_signed else unsigned(probe.accx, ACCX_BITS)
        state.accx = signed(before(product, ACCX_BITS), ACCX_BITS)
        return
    bits = qacc_bits(lane_bits(mnemonic))
    products, values = probe.qacc_lanes(bits, is_signed), split(random_number(rng, 320), bits, 320 // bits, is_signed)
    for lane in rng.permutation(len(values))[: pick(rng, (1, 1, 2, 3, 16))]:
        values[lane] = before(products[lane], bits)
    state.set_qacc_lanes(values, bits)


def near_narrow_limits(rng: np.random.Generator, mnemonic: str, operands: dict[str, int], state: State) -> None:
    """Accumulators that SRCMB and SRS shift to the limits of the narrow result, or to just beyond."""
    if mnemonic == "ee.srs.accx":
        narrow, bits, count = 32, ACCX_BITS, state.a[operands["as"]] % 64
    else:
        narrow, bits = lane_bits(mnemonic), qacc_bits(lane_bits(mnemonic))
        count = state.a[operands["as"]] % (32 if narrow == 8 else 64)
    low, high = limits(narrow, True)

    def before() -> int:
        return clamp((pick(rng, (low - 1, low, -1, 0, high, high + 1)) << count) + pick(rng, (-1, 0, 1)), bits)

    if mnemonic == "ee.srs.accx":
        state.accx = before()
    else:
        state.set_qacc_lanes([before() for _ in range(2 * HALF_BITS // bits)], bits)


def random_case(rng: np.random.Generator, mnemonic: str) -> tuple[dict[str, int], State, Memory]:
    """Operands, registers and memory for one execution; about a quarter of the cases are extreme.

    Those have lanes at their limits, sums on and next to the accumulators' rails, shift counts that end a range,
    negative LDXQ indices, now and then sel2 = 1: `execute` may raise Undefined, but never for anything else.
    """
    extreme = bool(rng.random() < 0.25)
    operands = random_operands(rng, mnemonic, extreme)
    state, memory = random_state(rng, mnemonic, extreme), Memory(BASE, bytearray(rng.bytes(SIZE)))
    if mnemonic.startswith("ee.vcmp") and rng.random() < 0.5:
        x, y = lanes(state.q[operands["qx"]], 32), lanes(state.q[operands["qy"]], 32)
        keep = [pick(rng, pair) for pair in zip(x, y, strict=True)]
        state.q[operands["qy"]] = join(keep, 32).to_bytes(16, "little")
    if "as" in operands and mnemonic not in AS_IS_NO_ADDRESS:
        point_at_memory(rng, mnemonic, operands, state, extreme)
    if extreme and "mulas" in mnemonic:
        near_rails(rng, mnemonic, operands, state, memory)
    if mnemonic.startswith(("ee.srcmb", "ee.srs")):
        if not extreme:
            state.a[operands["as"]] = pick(rng, range(20))
        elif rng.random() < 0.5:
            near_narrow_limits(rng, mnemonic, operands, state)
    return operands, state, memory
