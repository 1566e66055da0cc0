// SPDX-License-Identifier: MIT
// A board at a serial port (Web Serial), spoken to by MicroPython's raw REPL, as mpremote does.

const BAUD = 115200;
const ANSWER_MS = 10000;
const PROGRAM_MS = 600000;
const CAMERA_MS = 30000; // a frame through a slow port
const UNPLUGGED = "the board was unplugged";
const RAW_PROMPT = "raw REPL; CTRL-B to exit\r\n>";
const CHUNK = 256; // bytes of a program that go at a time, where the board has no flow control
const PIECE = 1536; // bytes of a file that go in one line of Python

const encoder = new TextEncoder();

export class SerialBoard {
    #port;
    #reader;
    #writer;
    #received = []; // bytes that nobody has asked for yet
    #arrived = null; // resolves when more come
    #ended = null; // the reason why no more come
    #pump;
    #busy = Promise.resolve(); // what the board does last: programs run one after the other

    // Opens a port that the user has chosen; what runs on the board is interrupted.
    static async open(port) {
        const board = new SerialBoard();
        board.#port = port;
        try {
            await port.open({ baudRate: BAUD });
        } catch (error) {
            throw new Error(`the port does not open: ${error.message} Does another program (mpremote, an IDE) have it?`);
        }
        board.#writer = port.writable.getWriter();
        board.#reader = port.readable.getReader();
        board.#pump = board.#read();
        try {
            await board.#enter();
        } catch (error) {
            await board.close();
            throw error;
        }
        return board;
    }

    get open() {
        return this.#ended === null;
    }

    // Resolves when no more comes from the board: it was unplugged, or the port was closed.
    get gone() {
        return this.#pump;
    }

    get reason() {
        return this.#ended;
    }

    // Runs an action after those before it.
    #alone(action) {
        const done = this.#busy.then(action);
        this.#busy = done.catch(() => {});
        return done;
    }

    async #read() {
        try {
            for (;;) {
                const { value, done } = await this.#reader.read();
                if (done) break;
                for (const byte of value) this.#received.push(byte);
                this.#arrived?.();
            }
            this.#ended ??= UNPLUGGED;
        } catch (error) {
            this.#ended ??= error.name === "NetworkError" ? UNPLUGGED : `the connection broke: ${error.message}`;
        }
        this.#arrived?.();
    }

    async #write(data) {
        try {
            await this.#writer.write(typeof data === "string" ? encoder.encode(data) : data);
        } catch {
            throw new Error(this.#ended ?? UNPLUGGED);
        }
    }

    // Waits for more bytes; an Error after the deadline or when the port is gone.
    async #more(deadline, wanted) {
        if (this.#ended !== null) throw new Error(this.#ended);
        const left = deadline - performance.now();
        if (left <= 0) throw new Error(`the board does not answer (waited for ${wanted}): is MicroPython on it?`);
        await new Promise((resolve) => {
            const timer = setTimeout(resolve, left);
            this.#arrived = () => {
                clearTimeout(timer);
                resolve();
            };
        });
        this.#arrived = null;
    }

    async #bytes(count, wanted, milliseconds = ANSWER_MS) {
        const deadline = performance.now() + milliseconds;
        while (this.#received.length < count) await this.#more(deadline, wanted);
        return Uint8Array.from(this.#received.splice(0, count));
    }

    // Everything up to `end`, which is taken off; `each` gets text while it comes.
    async #until(end, milliseconds = ANSWER_MS, each = null) {
        const deadline = performance.now() + milliseconds;
        const marker = encoder.encode(end);
        const decoder = new TextDecoder();
        const out = [];
        let text = "";
        for (;;) {
            const fresh = [];
            while (this.#received.length) {
                const byte = this.#received.shift();
                out.push(byte);
                fresh.push(byte);
                if (marker.length <= out.length && marker.every((b, i) => b === out[out.length - marker.length + i])) {
                    text += decoder.decode(Uint8Array.from(fresh), { stream: true });
                    if (each) each(text.slice(0, -end.length));
                    return new TextDecoder().decode(Uint8Array.from(out.slice(0, out.length - marker.length)));
                }
            }
            text += decoder.decode(Uint8Array.from(fresh), { stream: true });
            // What may be the beginning of the marker stays back.
            if (each && text.length >= end.length) {
                each(text.slice(0, text.length - end.length + 1));
                text = text.slice(text.length - end.length + 1);
            }
            await this.#more(deadline, JSON.stringify(end));
        }
    }

    async #enter() {
        await this.#write("\r\x03\x03");
        await new Promise((resolve) => setTimeout(resolve, 100));
        this.#received.length = 0;
        await this.#write("\r\x01");
        await this.#until(RAW_PROMPT);
    }

    // Start with an empty namespace, as mpremote does before it runs a script.
    async #reset() {
        await this.#write("\x04");
        await this.#until("soft reboot\r\n");
        await this.#until(RAW_PROMPT);
    }

    // Hands a program over: by raw paste, which has flow control, where the board has it.
    async #send(code) {
        const bytes = encoder.encode(code);
        await this.#write("\x05A\x01");
        const answer = new TextDecoder().decode(await this.#bytes(2, "raw paste"));
        if (answer === "R\x01") {
            const [low, high] = await this.#bytes(2, "the window of raw paste");
            const step = low | (high << 8);
            let room = step;
            for (let at = 0; at < bytes.length; ) {
                while (room === 0 || this.#received.length) {
                    const [byte] = await this.#bytes(1, "raw paste");
                    if (byte === 1) room += step;
                    else if (byte === 4) {
                        await this.#write("\x04");
                        throw new Error("the board stopped taking the program: it has too little memory for it");
                    }
                }
                const count = Math.min(room, bytes.length - at);
                await this.#write(bytes.subarray(at, at + count));
                at += count;
                room -= count;
            }
            await this.#write("\x04");
            await this.#until("\x04");
            return;
        }
        if (answer !== "R\x00") await this.#until(">");
        for (let at = 0; at < bytes.length; at += CHUNK) {
            await this.#write(bytes.subarray(at, at + CHUNK));
            await new Promise((resolve) => setTimeout(resolve, 10));
        }
        await this.#write("\x04");
        const said = new TextDecoder().decode(await this.#bytes(2, "OK"));
        if (said !== "OK") throw new Error(`the board did not take the program: it said ${JSON.stringify(said)}`);
    }

    // Runs a program; returns what it printed. An Error has the last line of its traceback. each: gets text as it comes.
    exec(code, each = null, milliseconds = ANSWER_MS) {
        return this.#alone(() => this.#exec(code, each, milliseconds));
    }

    async #exec(code, each, milliseconds) {
        await this.#send(code);
        const printed = await this.#until("\x04", milliseconds, each);
        const problem = (await this.#until("\x04")).trim();
        await this.#until(">");
        if (problem) {
            each?.(problem.replaceAll("\r", "") + "\n");
            throw new Error(problem.split("\n").pop().trim());
        }
        return printed.replaceAll("\r\n", "\n");
    }

    run(script, each) {
        return this.#alone(async () => {
            await this.#reset();
            await this.#exec(script, each, PROGRAM_MS);
        });
    }

    async interrupt() {
        await this.#write("\x03");
    }

    // {name, version, modules..., models} of the board.
    async about() {
        return JSON.parse(await this.exec(ABOUT));
    }

    // Writes a file and reads its size and checksum back.
    async copy(path, data, progress = () => {}) {
        try {
            await this.exec(BEGIN.replaceAll("PATH", JSON.stringify(path)));
        } catch (error) {
            if (!this.open || !/OSError/.test(error.message)) throw error;
            throw new Error(`${path}: the board cannot write it (${error.message}): is its file system read-only or full?`);
        }
        for (let at = 0; at < data.length; at += PIECE) {
            await this.exec(`w(u("${btoa(String.fromCharCode(...data.subarray(at, at + PIECE)))}"))`);
            progress(Math.min(1, (at + PIECE) / data.length));
        }
        const [size, checksum] = JSON.parse(await this.exec(END.replaceAll("PATH", JSON.stringify(path)), null, 60000));
        if (size !== data.length || checksum >>> 0 !== crc32(data)) {
            throw new Error(`${path}: what the board wrote differs (${size} of ${data.length} bytes); copy it again`);
        }
    }

    // Switches the board's camera on, by the firmware's package. pins: a name of its BOARDS, or ""; order: of colours.
    async cameraOn({ pins, order }) {
        const code = CAMERA_ON.replace("PINS", JSON.stringify(pins)).replace("ORDER", JSON.stringify(order));
        try {
            await this.exec(code, null, CAMERA_MS);
        } catch (error) {
            if (/ImportError.*ftervit/.test(error.message)) {
                throw new Error("the board has no package ftervit: install this project's firmware");
            }
            throw new Error(error.message.replace(/^CameraError: /, ""));
        }
    }

    // The middle square of the camera's next frame: {width, height, channels, data}.
    async frame() {
        let text;
        try {
            text = await this.exec(CAMERA_FRAME, null, CAMERA_MS);
        } catch (error) {
            throw new Error(error.message.replace(/^CameraError: /, ""));
        }
        // Bad frames cost a line each before the good one.
        const header = /^frame (\d+) (\d+)$/m.exec(text);
        if (!header) throw new Error(`the board sent no picture, but ${JSON.stringify(text.trim().slice(-80))}`);
        const [side, channels] = header.slice(1).map(Number);
        const lines = text.slice(header.index + header[0].length).replaceAll("\n", "");
        const data = Uint8Array.from(atob(lines), (character) => character.charCodeAt(0));
        if (data.length !== side * side * channels) {
            throw new Error(`the board sent ${data.length} bytes of a picture, not ${side * side * channels}`);
        }
        return { width: side, height: side, channels, data };
    }

    async cameraOff() {
        await this.exec("eye.close()\ndel eye", null, CAMERA_MS);
    }

    // Leaves the board at its friendly prompt and closes the port.
    async close() {
        this.#ended ??= "the port is closed";
        try {
            await this.#write("\r\x02");
        } catch {
            // It is gone already.
        }
        await this.#reader.cancel().catch(() => {});
        await this.#pump;
        this.#reader.releaseLock();
        this.#writer.releaseLock();
        await this.#port.close().catch(() => {});
    }
}

export function crc32(data) {
    let value = ~0;
    for (const byte of data) {
        value ^= byte;
        for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
    }
    return ~value >>> 0;
}

const ABOUT = `
import gc, json, os, sys
gc.collect()
def listing(folder):
    try:
        return [folder + "/" + name for name in sorted(os.listdir(folder)) if name.endswith(".safetensors")]
    except OSError:
        return []
try:
    import ternary
    module = True
except ImportError:
    module = False
try:
    import camera
    eye = True
except ImportError:
    eye = False
print(json.dumps({"machine": getattr(sys.implementation, "_machine", sys.platform), "version": sys.version,
    "memory": gc.mem_free(), "module": module, "camera": eye,
    "models": listing("/models") + listing("/rom/models")}))
`;

const BEGIN = `
import os
from binascii import a2b_base64 as u
at = ""
for part in PATH.split("/")[1:-1]:
    at += "/" + part
    try:
        os.mkdir(at)
    except OSError:
        pass
f = open(PATH, "wb")
w = lambda data: f.write(data) and None
`;

const END = `
f.close()
from binascii import crc32
count = check = 0
with open(PATH, "rb") as f:
    while True:
        piece = f.read(512)
        if not piece:
            break
        count += len(piece)
        check = crc32(piece, check)
print([count, check])
`;

const CAMERA_ON = `
from binascii import b2a_base64
from ftervit.camera import Camera
eye = Camera(board=PINS, order=ORDER)
`;

// At most 128 pixels a side, as collect.py stores them: all that the network and training need.
const CAMERA_FRAME = `
image = eye.image()
side = min(128, image.width, image.height)
data = image.square(side, image.channels)
print("frame", side, image.channels)
for at in range(0, len(data), 600):
    print(b2a_base64(bytes(data[at : at + 600])).decode().strip())
`;
