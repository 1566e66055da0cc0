// SPDX-License-Identifier: MIT
// The REPL of the board in this page, in a terminal.

import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { element } from "./dom.js";

const EXAMPLES = {
    "…": "",
    "Predict a sneaker": 'model.predict(read_image("images/7_sneaker.pgm"))',
    "No GELU in block 2": "model.blocks[2].mlp.act = lambda x, out: x",
    "Take block 3 away": "model.blocks.pop(3)",
    "A row of zeros through fc1": "list(model.blocks[0].mlp.fc1(bytes(model.embed_dim)))[:8]",
    "Plan of memory": "print(model.plan)",
};
const PASTE = "\x05";
const INTERRUPT = "\x03";
const END = "\x04";

export class Repl {
    #board;
    #terminal = new Terminal({
        convertEol: true,
        cursorBlink: true,
        fontSize: 13,
        fontFamily: 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
        theme: { background: "#101312", foreground: "#e7e6e0", cursor: "#7fc8b0", selectionBackground: "#3b5a50" },
        screenReaderMode: true,
        scrollback: 5000,
    });
    #fit = new FitAddon();
    #open = false;

    constructor(board) {
        this.#board = board;
        board.addEventListener("output", ({ detail }) => {
            if (!board.scriptRuns) this.#terminal.write(detail);
        });
        this.#terminal.onData((data) => this.type(data));
        element("stop").addEventListener("click", () => this.interrupt());
        element("restart").addEventListener("click", () => this.restart("restarted"));
        const chooser = element("example");
        for (const name of Object.keys(EXAMPLES)) chooser.add(new Option(name));
        chooser.addEventListener("change", () => {
            if (EXAMPLES[chooser.value]) this.type(`${EXAMPLES[chooser.value]}\r`);
            chooser.selectedIndex = 0;
            this.#terminal.focus();
        });
        element("isolation").hidden = board.interruptible;
        // More than one line goes in by MicroPython's paste mode, without its indentation.
        element("terminal").addEventListener(
            "paste",
            (event) => {
                const text = event.clipboardData.getData("text").replaceAll("\r\n", "\n");
                if (!text.includes("\n")) return;
                event.preventDefault();
                event.stopImmediatePropagation();
                this.paste(text);
            },
            true,
        );
    }

    async start() {
        await this.#board.call("prompt");
    }

    paste(text) {
        this.type(PASTE + text.replaceAll("\n", "\r") + END);
    }

    async type(text) {
        if (text === INTERRUPT && this.#board.busy) {
            this.interrupt();
            return;
        }
        try {
            const ended = await this.#board.call("type", new TextEncoder().encode(text));
            if (ended) await this.restart("soft reboot");
            else if (/[\r\x04]/.test(text)) this.#board.dispatchEvent(new Event("changed"));
        } catch (error) {
            this.#terminal.write(`\r\n${error.message}\r\n`);
        }
    }

    async interrupt() {
        if (!this.#board.busy) await this.type(INTERRUPT);
        else if (!this.#board.interrupt()) await this.restart("interrupted by a restart: this page is not cross-origin isolated");
    }

    async restart(reason) {
        this.#terminal.write(`\r\n${reason}\r\n`);
        await this.#board.restart();
        await this.start();
        this.#board.dispatchEvent(new Event("restarted"));
    }

    shown(chosen) {
        if (!chosen) return;
        if (!this.#open) {
            this.#terminal.loadAddon(this.#fit);
            this.#terminal.open(element("terminal"));
            this.#open = true;
            addEventListener("resize", () => !element("repl").hidden && this.#fit.fit());
        }
        this.#fit.fit();
        this.#terminal.focus();
    }
}
