// SPDX-License-Identifier: MIT
// The panel of a board at a serial port.

import { element, make, problem, show } from "./dom.js";
import { ppm, rgba } from "./pictures.js";
import { SerialBoard } from "./serial.js";

const NEEDED = ["disconnect", "copy", "shoot", "run-chip", "board-camera"];

// The camera of the connected board as a source of frames.
class BoardCamera {
    button = "board-camera";
    on = "Stop board's camera";
    off = "Start board's camera";
    name = "the board's camera";
    #board;

    static async open(board, settings) {
        const made = new BoardCamera();
        made.#board = board;
        await board.cameraOn(settings);
        return made;
    }

    async frame() {
        const { width, height, channels, data } = await this.#board.frame();
        const image = rgba(data, width, height, channels);
        return { pnm: ppm(image), image };
    }

    async close() {
        // What does not switch off is said by the board's next program.
        if (this.#board.open) await this.#board.cameraOff().catch(() => {});
    }
}

export class Chip {
    #see;
    #board = null;
    #camera = null; // the source of frames while it is watched
    #asked = false;
    model = null; // {name, data} that `copy` writes
    running = false;

    constructor(see) {
        this.#see = see;
        const supported = "serial" in navigator;
        element("connect").disabled = !supported;
        element("flash").disabled = !supported;
        if (!supported) this.#say("This browser has no Web Serial: use Chrome, Edge or Opera on a computer.");
        this.#on("connect", () => this.#connect());
        this.#on("disconnect", () => this.#disconnect());
        this.#on("copy", () => this.#copy());
        this.#on("shoot", () => this.#shoot());
        this.#on("board-camera", () => this.#watch());
        this.#on("flash", () => this.#flash());
    }

    // What the package knows of cameras.
    offer([pins, orders]) {
        for (const name of pins) element("camera-pins").add(new Option(name));
        for (const name of orders) element("camera-order").add(new Option(name));
    }

    // Firmware that was published beside the page, which is there only on a released site.
    async shown(chosen) {
        if (!chosen || this.#asked) return;
        this.#asked = true;
        const answer = await fetch("firmware/list.json").catch(() => null);
        if (!answer?.ok) return;
        const chooser = element("firmware-name");
        chooser.add(new Option("a file of mine", ""));
        for (const name of await answer.json()) chooser.add(new Option(name));
        element("published").hidden = false;
    }

    // {name, data} of the firmware to install.
    async #firmware() {
        const [file] = element("firmware").files;
        const name = element("firmware-name").value;
        if (name) {
            const answer = await fetch(`firmware/${name}`);
            if (!answer.ok) throw new Error(`firmware/${name}: ${answer.status} ${answer.statusText}`);
            return { name, data: new Uint8Array(await answer.arrayBuffer()) };
        }
        if (!file) throw new Error("choose a firmware.bin first");
        return { name: file.name, data: new Uint8Array(await file.arrayBuffer()) };
    }

    get connected() {
        return this.#board !== null;
    }

    #say(text) {
        show("chip-state", text);
    }

    // A button whose errors are shown; while it works, the others wait.
    #on(id, action) {
        element(id).addEventListener("click", async () => {
            for (const other of [...NEEDED, "connect", "flash"]) element(other).disabled = true;
            try {
                await action();
            } catch (error) {
                this.#say(error.message);
            } finally {
                element("chip-progress").hidden = true;
                this.#lost();
                this.#buttons();
            }
        });
    }

    // Takes note if the board is no longer there.
    #lost() {
        if (!this.#board || this.#board.open) return;
        this.#say(this.#board.reason);
        this.#board.close(); // otherwise its port could not be opened again
        this.#board = null;
        element("chip-about").replaceChildren();
    }

    #buttons() {
        for (const id of NEEDED) element(id).disabled = !this.#board;
        element("connect").disabled = this.#board !== null;
        element("flash").disabled = this.#board !== null;
        element("board-camera").hidden = !this.#board;
    }

    async #port() {
        try {
            return await navigator.serial.requestPort();
        } catch (error) {
            if (error.name === "NotFoundError") throw new Error("no port was chosen");
            throw error;
        }
    }

    async #connect() {
        this.#say("connecting …");
        const board = await SerialBoard.open(await this.#port());
        this.#board = board;
        board.gone.then(() => {
            if (this.#board !== board) return;
            this.#lost();
            this.#buttons();
        });
        const about = await board.about();
        const facts = {
            Board: about.machine,
            MicroPython: about.version,
            "Free memory": `${about.memory.toLocaleString("en")} bytes`,
            "Module ternary": about.module ? "yes" : "no: install this project's firmware",
            Camera: about.camera ? "yes" : "no camera module",
            Models: about.models.length ? about.models.join(", ") : "none",
        };
        element("chip-about").replaceChildren(
            ...Object.entries(facts).flatMap(([name, value]) => [
                make("dt", { textContent: name }),
                make("dd", { textContent: value }),
            ]),
        );
        this.#say("connected");
    }

    async #disconnect() {
        const board = this.#board;
        await this.#unwatch();
        await board.close();
        this.#board = null;
        element("chip-about").replaceChildren();
        this.#say("disconnected");
    }

    #progress(share) {
        element("chip-progress").hidden = false;
        element("chip-progress").value = share;
    }

    async #copy() {
        await this.write(`/models/${this.model.name}`, this.model.data);
    }

    async write(path, data) {
        const board = this.#board;
        await this.#unwatch();
        this.#say(`copying ${path} …`);
        await board.copy(path, data, (share) => this.#progress(share));
        this.#say(`${path}: ${data.length.toLocaleString("en")} bytes copied and compared`);
    }

    #open() {
        return BoardCamera.open(this.#board, { pins: element("camera-pins").value, order: element("camera-order").value });
    }

    async #shoot() {
        this.#say("taking a picture …");
        await this.#see.stop();
        const camera = await this.#open();
        let taken;
        try {
            taken = { name: camera.name, ...(await camera.frame()) };
        } finally {
            await camera.close();
        }
        await this.#see.classify(taken);
        this.#see.dispatchEvent(new Event("picture"));
        this.#say("picture taken");
    }

    async #watch() {
        if (this.#see.shows(this.#camera)) return this.#unwatch();
        this.#say("starting the board's camera …");
        try {
            this.#camera = await this.#open();
        } catch (error) {
            problem(error); // its button is far from this panel
            throw error;
        }
        await this.#see.start(this.#camera);
        this.#say("its camera runs");
    }

    // The board has something else to do than to take pictures.
    async #unwatch() {
        if (this.#see.shows(this.#camera)) await this.#see.stop();
        this.#camera = null;
    }

    // Runs a script on the board; false if it ended by an exception, which `each` got.
    async run(script, each) {
        const board = this.#board; // which is forgotten when it is unplugged
        this.running = true;
        element("run-chip").disabled = true;
        await this.#unwatch();
        try {
            await board.run(script, each);
            return true;
        } catch (error) {
            if (!board.open) each(`${error.message}\n`);
            return false;
        } finally {
            this.running = false;
            this.#lost();
            this.#buttons();
        }
    }

    async interrupt() {
        await this.#board?.interrupt();
    }

    async #flash() {
        const { name, data } = await this.#firmware();
        const port = await this.#port();
        // A large part that few visitors need.
        const { flash } = await import("./flash.js");
        await flash(port, data, name, {
            say: (text) => this.#say(text),
            progress: (share) => this.#progress(share),
        });
    }
}
