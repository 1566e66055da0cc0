// SPDX-License-Identifier: MIT
// Writes a flash image to an ESP32-S3 with esptool-js. Tested with a stand-in for the chip's ROM, not on a board.

import { md5 } from "@noble/hashes/legacy.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { ESPLoader, Transport } from "esptool-js";

const BAUD = 460800;
const CHIP = { name: "ESP32-S3", id: 9 };
// Numbers of chips in the header of an image.
const CHIPS = { 0: "ESP32", 2: "ESP32-S2", 5: "ESP32-C3", 12: "ESP32-C2", 13: "ESP32-C6", 16: "ESP32-H2", 18: "ESP32-P4" };
const MAGIC = 0xe9; // first byte of an image from address 0 on: the bootloader's
const CHIP_AT = 12;
const TABLE = 0x8000; // of partitions
const TABLE_MAGIC = [0xaa, 0x50];
// DTR off, then a reset by RTS. HardReset of esptool-js 0.7.0 only lets RTS go, which resets nothing.
const RESET = "D0|R1|W100|R0";
const CLOSING_MS = 1000;

// The port of one installation. esptool-js goes on for seconds after its board was unplugged (it waits for answers and
// sends blocks again); once this is over, nothing of that reaches the port, which another installation may have opened.
class Session {
    #port;
    #over = false;
    #open = false;

    constructor(port) {
        this.#port = port;
    }

    get readable() {
        return this.#over ? null : this.#port.readable;
    }

    get writable() {
        return this.#over ? null : this.#port.writable;
    }

    getInfo() {
        return this.#port.getInfo();
    }

    #check() {
        if (this.#over) throw new Error("the installation is over");
    }

    async open(options) {
        this.#check();
        await this.#port.open(options);
        this.#open = true;
    }

    async setSignals(signals) {
        this.#check();
        await this.#port.setSignals(signals);
    }

    async close() {
        if (!this.#open) return;
        await this.#port.close();
        this.#open = false;
    }

    async end() {
        this.#over = true;
        await this.close().catch(() => {});
    }
}

// An Error unless this is all of an ESP32-S3's firmware.
function check(image, name) {
    if (image[0] !== MAGIC) throw new Error(`${name}: not a flash image of an ESP32 (its first byte is not 0xE9)`);
    const id = image[CHIP_AT] | (image[CHIP_AT + 1] << 8);
    if (id !== CHIP.id) throw new Error(`${name}: an image for ${CHIPS[id] ?? `chip number ${id}`}, needs one for ${CHIP.name}`);
    if (TABLE_MAGIC.some((byte, i) => image[TABLE + i] !== byte)) {
        throw new Error(`${name}: has no partition table at 0x8000: choose the firmware.bin that starts at address 0`);
    }
}

// A chip that is ready to be written; an Error that says what to do.
async function connected(transport) {
    // What esptool-js says is for its own users.
    const loader = new ESPLoader({ transport, baudrate: BAUD, terminal: { clean() {}, write() {}, writeLine() {} } });
    try {
        await loader.detectChip();
    } catch (error) {
        const silent = /Failed to connect/.test(error.message);
        const words = "the chip does not answer: hold its button BOOT, press RESET, let go of BOOT, and try again";
        throw new Error(silent ? words : `no chip that is known: ${error.message}`);
    }
    const { CHIP_NAME: found } = loader.chip;
    if (found !== CHIP.name) {
        await loader.after("custom_reset", false, RESET);
        throw new Error(`${found} is connected; the firmware is for ${CHIP.name}`);
    }
    if (loader.secureDownloadMode) throw new Error("the chip is locked (secure download mode): it takes no firmware from here");
    await loader.chip.postConnect(loader);
    await loader.runStub();
    await loader.changeBaud();
    return loader;
}

async function write(transport, image, name, { say, progress }) {
    const loader = await connected(transport);
    const size = await loader.detectFlashSize();
    if (!size) throw new Error("the chip's flash does not answer: unplug the board, plug it in, and try again");
    if (loader.flashSizeBytes(size) < image.length) {
        throw new Error(`${name}: ${image.length.toLocaleString("en")} bytes, the chip's flash has ${size}`);
    }
    say(`writing ${image.length.toLocaleString("en")} bytes …`);
    try {
        await loader.writeFlash({
            fileArray: [{ data: image, address: 0 }],
            flashMode: "keep",
            flashFreq: "keep",
            flashSize: "keep",
            eraseAll: false,
            compress: true,
            calculateMD5Hash: (data) => bytesToHex(md5(data)),
            reportProgress: (_, written, total) => progress(written / total),
        });
    } catch (error) {
        const differs = /MD5/.test(error.message);
        const words = differs ? "what the flash holds differs" : `not written (${error.message})`;
        throw new Error(`${name}: ${words}; install it again before you use the board, perhaps with another cable`);
    }
    await loader.after("custom_reset", false, RESET);
    say(`${name}: written and compared; connect to the board now`);
}

export async function flash(port, image, name, report) {
    check(image, name);
    const session = new Session(port);
    const transport = new Transport(session);
    let unplugged;
    const lost = new Promise((_, reject) => {
        unplugged = () => reject(new Error(`${name}: the board was unplugged; plug it in and install it again`));
    });
    port.addEventListener("disconnect", unplugged);
    const work = write(transport, image, name, report);
    try {
        await Promise.race([work, lost]);
    } finally {
        port.removeEventListener("disconnect", unplugged);
        work.catch(() => {});
        // A stream that stays locked would keep esptool-js waiting for ever.
        const late = new Promise((resolve) => setTimeout(resolve, CLOSING_MS));
        await Promise.race([transport.disconnect().catch(() => {}), late]);
        await session.end();
    }
}
