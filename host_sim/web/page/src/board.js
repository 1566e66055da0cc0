// SPDX-License-Identifier: MIT
// The board in this page: starts the worker, calls its methods, interrupts it, and starts it again.

export class Board extends EventTarget {
    #worker;
    #waiting = new Map();
    #next = 0;
    #flag = null;
    #files = null;
    model = null; // {path, data} of the model that was loaded last

    // Whether a running program can be interrupted (SharedArrayBuffer: only in a cross-origin isolated page).
    get interruptible() {
        return globalThis.crossOriginIsolated === true;
    }

    get busy() {
        return this.#waiting.size > 0;
    }

    async start() {
        this.#files ??= await contents();
        this.#worker = new Worker("worker.js", { type: "module" });
        this.#worker.onmessage = ({ data }) => this.#receive(data);
        this.#worker.onerror = (event) => this.#fail(event.message || "the worker did not start");
        const interrupt = this.interruptible ? new SharedArrayBuffer(4) : null;
        this.#flag = interrupt && new Int32Array(interrupt);
        await this.call("start", { files: this.#files, interrupt });
    }

    #receive({ id, result, error, output }) {
        if (output !== undefined) {
            this.dispatchEvent(new CustomEvent("output", { detail: output }));
            return;
        }
        const { resolve, reject } = this.#waiting.get(id);
        this.#waiting.delete(id);
        if (error === undefined) resolve(result);
        else reject(new Error(error));
    }

    #fail(reason) {
        for (const { reject } of this.#waiting.values()) reject(new Error(reason));
        this.#waiting.clear();
    }

    call(method, parameters = {}) {
        const id = this.#next++;
        return new Promise((resolve, reject) => {
            this.#waiting.set(id, { resolve, reject });
            this.#worker.postMessage({ id, method, parameters });
            });
    }

    // Returns what it says of the model; an Error in the reader's words if it refuses the file.
    async load(path, data = null) {
        const about = await this.call("load", { path, data });
        this.model = { path, data };
        return about;
    }

    // Ctrl-C for what runs. False if it could not be interrupted; then only `restart` helps.
    interrupt() {
        if (!this.#flag) return false;
        Atomics.store(this.#flag, 0, 1);
        Atomics.notify(this.#flag, 0);
        return true;
    }

    // A new interpreter with the same model.
    async restart() {
        this.#worker.terminate();
        this.#fail("the board was restarted");
        await this.start();
        if (this.model) await this.call("load", this.model);
    }
}

// The board's files from board.json: text, or {base64}.
async function contents() {
    const answer = await fetch("board.json");
    if (!answer.ok) throw new Error(`board.json: ${answer.status}`);
    const files = {};
    for (const [path, data] of Object.entries(await answer.json())) {
        files[path] =
            typeof data === "string" ? data : Uint8Array.from(atob(data.base64), (character) => character.charCodeAt(0));
    }
    return files;
}
