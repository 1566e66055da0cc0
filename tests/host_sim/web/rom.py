# SPDX-License-Identifier: MIT
"""A stand-in for the bootloader in an Espressif chip's ROM and for the stub that esptool loads into its RAM.

Written from Espressif's description of the serial protocol: packets framed by SLIP, one command and one response at a
time, and two lines that reset the chip into its bootloader. It keeps what is written to its flash.
"""

import hashlib
import os
import select
import struct
import threading
import time
import zlib

from host_sim.boards.interpreter import open_raw_terminal

FLASH = 4 << 20
BLOCK = 4096  # bytes that erasing takes at a time
END, ESCAPE = 0xC0, 0xDB
FLASH_BEGIN, FLASH_DATA, FLASH_END = 0x02, 0x03, 0x04
MEM_BEGIN, MEM_END, MEM_DATA = 0x05, 0x06, 0x07
SYNC, WRITE_REG, READ_REG, SPI_ATTACH, CHANGE_BAUD = 0x08, 0x09, 0x0A, 0x0D, 0x0F
DEFL_BEGIN, DEFL_DATA, DEFL_END, MD5, SECURITY = 0x10, 0x11, 0x12, 0x13, 0x14
CHECKED = (FLASH_DATA, MEM_DATA, DEFL_DATA)
BAD_COMMAND, BAD_CHECKSUM = 5, 7
RESET_BAUD = 115200
# Where esptool asks for the flash chip's identity: the command register, whose bit 18 starts a command and is
# cleared at its end, and the register of the answer, whose third byte is the logarithm of the size.
SPI_COMMAND, SPI_ANSWER, START = 0x60002000, 0x60002058, 1 << 18
IDENTITY = 0x40C8


def frame(data: bytes) -> bytes:
    """A packet by SLIP."""
    body = data.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
    return bytes([END]) + body + bytes([END])


class Rom:
    """A chip at a terminal, `device`. flash: what its flash holds; states: what it booted, "download" or "app".

    chip_id: that of its images; magic: of register 0x40001000; security: whether it knows SECURITY, as an ESP32 does
    not. size: of the flash in bytes, a power of two; corrupt: it keeps one bit wrong; lost_after: the board is
    unplugged after so many blocks; pause: seconds that a block takes.
    """

    def __init__(self, chip_id=9, magic=9, security=True, size=FLASH, corrupt=False, lost_after=None, pause=0.0):
        self.chip_id, self.magic, self.security = chip_id, magic, security
        self.corrupt, self.lost_after, self.pause = corrupt, lost_after, pause
        self.flash = bytearray(b"\xff" * (size - 4) + b"mine")  # files of the user at the end
        self.baud, self.states = RESET_BAUD, []
        self.dtr = self.rts = False
        self.blocks = 0
        self.master, self.slave = open_raw_terminal()
        self.device = os.ttyname(self.slave)
        self.reset("app")
        self.wake, self.waker = os.pipe()
        threading.Thread(target=self.serve, daemon=True).start()

    def close(self) -> None:
        """End."""
        os.close(self.waker)

    def reset(self, state: str) -> None:
        """Boot."""
        self.states.append(state)
        self.stub, self.speed = False, RESET_BAUD
        self.ram: dict[int, bytes] = {}
        self.registers: dict[int, int] = {}
        self.packet, self.inside, self.escaped = bytearray(), False, False

    def signals(self, dtr: bool | None, rts: bool | None) -> None:
        """The two transistors of a development board: RTS alone holds the chip in reset, DTR alone pulls IO0 down."""
        held = self.rts and not self.dtr
        self.dtr = self.dtr if dtr is None else dtr
        self.rts = self.rts if rts is None else rts
        if held and not (self.rts and not self.dtr):
            self.reset("download" if self.dtr and not self.rts else "app")

    def serve(self) -> None:
        """Answer until `close` or until the board is unplugged."""
        while True:
            ready, _, _ = select.select([self.master, self.wake], [], [])
            if self.wake in ready:
                break
            for byte in os.read(self.master, 4096):
                # The wrong speed makes noise of it; a program that runs does not listen.
                if self.baud == self.speed and self.states[-1] == "download":
                    self.take(byte)
            if self.lost_after is not None and self.blocks >= self.lost_after:
                break
        for number in (self.master, self.slave):
            os.close(number)

    def take(self, byte: int) -> None:
        """A byte of a packet."""
        if byte == END:
            if self.inside and self.packet:
                self.command(bytes(self.packet))
                self.inside = False
            else:
                self.inside = True
            self.packet, self.escaped = bytearray(), False
        elif self.inside and self.escaped:
            self.packet.append({0xDC: END, 0xDD: ESCAPE}[byte])
            self.escaped = False
        elif self.inside and byte == ESCAPE:
            self.escaped = True
        elif self.inside:
            self.packet.append(byte)

    def say(self, data: bytes) -> None:
        """Send a packet."""
        data = frame(data)
        while data:
            data = data[os.write(self.master, data) :]

    def answer(self, command: int, value: int = 0, data: bytes = b"", error: int = 0) -> None:
        """A response. Its status has 4 bytes in ROM, 2 in the stub."""
        status = bytes([error != 0, error]) + (b"" if self.stub else b"\0\0")
        body = data + status
        self.say(struct.pack("<BBHI", 1, command, len(body), value & 0xFFFFFFFF) + body)

    def command(self, packet: bytes) -> None:
        """Do what a packet says."""
        direction, command, size, checksum = struct.unpack_from("<BBHI", packet)
        data = packet[8:]
        assert direction == 0 and size == len(data), packet[:8]
        if command in CHECKED:
            length = struct.unpack_from("<I", data)[0]
            body, check = data[16:], 0xEF
            assert length == len(body)
            for byte in body:
                check ^= byte
            if check != checksum & 0xFF:
                self.answer(command, error=BAD_CHECKSUM)
                return
        name = {
            **{SYNC: "sync", READ_REG: "read_reg", WRITE_REG: "write_reg", SECURITY: "security_info"},
            **{MEM_BEGIN: "mem_begin", MEM_DATA: "mem_data", MEM_END: "mem_end", CHANGE_BAUD: "change_baud"},
            **{DEFL_BEGIN: "defl_begin", DEFL_DATA: "defl_data", DEFL_END: "nothing", SPI_ATTACH: "nothing"},
            **{FLASH_BEGIN: "flash_begin", FLASH_DATA: "flash_data", FLASH_END: "nothing", MD5: "md5"},
        }.get(command)
        if name is None or (command == SECURITY and not self.security):
            self.answer(command, error=BAD_COMMAND)
            return
        getattr(self, name)(command, data)

    def nothing(self, command: int, data: bytes) -> None:
        """Done at once."""
        self.answer(command)

    def sync(self, command: int, data: bytes) -> None:
        """Eight responses; the stub's value is zero."""
        assert data == b"\x07\x07\x12\x20" + b"\x55" * 32
        for _ in range(8):
            self.answer(command, 0 if self.stub else 0x20120707)

    def read_reg(self, command: int, data: bytes) -> None:
        """The chip's magic number, or what was written; fuses are zero."""
        address = struct.unpack("<I", data)[0]
        self.answer(command, self.magic if address == 0x40001000 else self.registers.get(address, 0))

    def write_reg(self, command: int, data: bytes) -> None:
        """A register, of which only those of the flash chip's identity do something."""
        address, value = struct.unpack_from("<II", data)
        if address == SPI_COMMAND and value & START:
            self.registers[SPI_ANSWER] = IDENTITY | (len(self.flash).bit_length() - 1) << 16
        else:
            self.registers[address] = value
        self.answer(command)

    def security_info(self, command: int, data: bytes) -> None:
        """No flags; the chip's number."""
        self.answer(command, data=struct.pack("<IB7sII", 0, 0, bytes(7), self.chip_id, 0))

    def mem_begin(self, command: int, data: bytes) -> None:
        """A program for RAM."""
        _, _, self.ram_block, self.ram_at = struct.unpack("<IIII", data)
        self.answer(command)

    def mem_data(self, command: int, data: bytes) -> None:
        """A piece of it."""
        sequence = struct.unpack_from("<I", data, 4)[0]
        self.ram[self.ram_at + sequence * self.ram_block] = data[16:]
        self.answer(command)

    def mem_end(self, command: int, data: bytes) -> None:
        """It runs: it is taken for the stub, if it begins at an address that was written."""
        _, entry = struct.unpack("<II", data)
        assert any(at <= entry < at + len(piece) for at, piece in self.ram.items())
        self.answer(command)
        self.stub = True
        self.say(b"OHAI")

    def change_baud(self, command: int, data: bytes) -> None:
        """The next bytes come at another speed."""
        speed, before = struct.unpack("<II", data)
        assert before == (self.speed if self.stub else 0)
        self.answer(command)
        self.speed = speed

    def erase(self, at: int, size: int) -> None:
        """Whole blocks."""
        assert at % BLOCK == 0
        end = at + -(-size // BLOCK) * BLOCK
        self.flash[at:end] = b"\xff" * (end - at)

    def program(self, data: bytes) -> None:
        """Flash turns ones into zeros."""
        where = slice(self.at, self.at + len(data))
        self.flash[where] = bytes(old & new for old, new in zip(self.flash[where], data, strict=True))
        self.at += len(data)
        if self.corrupt:
            self.flash[self.at - 1] ^= 1

    def flash_begin(self, command: int, data: bytes) -> None:
        """Writing begins."""
        size, _, _, self.at = struct.unpack_from("<IIII", data)
        self.erase(self.at, size)
        self.expected = 0
        self.answer(command)

    def flash_data(self, command: int, data: bytes) -> None:
        """A block."""
        self.in_order(data)
        self.program(data[16:])
        self.answer(command)

    def defl_begin(self, command: int, data: bytes) -> None:
        """Writing of compressed data begins."""
        self.inflate = zlib.decompressobj()
        self.flash_begin(command, data)

    def defl_data(self, command: int, data: bytes) -> None:
        """A block of it."""
        self.in_order(data)
        time.sleep(self.pause)
        self.program(self.inflate.decompress(data[16:]))
        self.answer(command)

    def in_order(self, data: bytes) -> None:
        """Blocks come in their order."""
        sequence = struct.unpack_from("<I", data, 4)[0]
        assert sequence == self.expected
        self.expected += 1
        self.blocks += 1

    def md5(self, command: int, data: bytes) -> None:
        """Of a part of flash: bytes from the stub, hexadecimal digits from ROM."""
        at, size = struct.unpack_from("<II", data)
        digest = hashlib.md5(self.flash[at : at + size])
        self.answer(command, data=digest.digest() if self.stub else digest.hexdigest().encode())
