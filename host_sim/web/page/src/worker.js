// SPDX-License-Identifier: MIT
// MicroPython in a worker. The page sends {id, method, parameters}; it gets {id, result} or {id, error}, and {output}
// whenever something was printed.

import { loadMicroPython } from "micropython";

const HEAP = 4 * 1024 * 1024;
const PYSTACK = 16 * 1024;
const PICTURE = "/tmp/picture";
const SEEN = "/tmp/seen";
const FLUSH_MS = 30;

let mp, page, flag;
let printed = [];
let flushed = 0;
const decoder = new TextDecoder();

function flush() {
    if (printed.length) {
        postMessage({ output: decoder.decode(new Uint8Array(printed), { stream: true }) });
        printed = [];
    }
    flushed = performance.now();
}

function print(bytes) {
    printed.push(...bytes);
    if (printed.length > 4096) flush();
}

// Called while code runs, every thousand jumps or so.
function poll() {
    if (printed.length && performance.now() - flushed > FLUSH_MS) flush();
    return flag ? Atomics.exchange(flag, 0, 0) : 0;
}

function wait(milliseconds) {
    flush();
    const still = flag ?? new Int32Array(typeof SharedArrayBuffer === "undefined" ? 0 : new SharedArrayBuffer(4));
    if (still.length) Atomics.wait(still, 0, 0, milliseconds);
}

function folder(path) {
    let at = "";
    for (const part of path.split("/").slice(1, -1)) {
        at += "/" + part;
        if (!mp.FS.analyzePath(at).exists) mp.FS.mkdir(at);
    }
}

function write(path, data) {
    folder(path);
    mp.FS.writeFile(path, data);
}

// The reader's own words: the last line of a traceback, without the exception's name.
function words(error) {
    const lines = String(error.message ?? error).trim().split("\n");
    return lines[lines.length - 1].replace(/^(ValueError|OSError|MemoryError): /, "");
}

const methods = {
    async start({ files, interrupt }) {
        flag = interrupt && new Int32Array(interrupt);
        mp = await loadMicroPython({ heapsize: HEAP, pystack: PYSTACK, linebuffer: false, stdout: print, stderr: print });
        mp._module.page = { poll, wait };
        for (const [path, data] of Object.entries(files)) write(path, data);
        page = mp.pyimport("page");
        mp.runPython("from ftervit import *");
    },
    prompt() {
        mp.replInit();
    },
    // Bytes typed at the REPL; true if it ended (Ctrl-D).
    type(bytes) {
        for (const byte of bytes) if (mp.replProcessChar(byte)) return true;
        return false;
    },
    load({ path, data }) {
        if (data) write(path, data);
        return JSON.parse(page.load(path));
    },
    look({ picture }) {
        mp.FS.writeFile(PICTURE, picture);
        const found = JSON.parse(page.look(PICTURE));
        found.seen = mp.FS.readFile(SEEN);
        return found;
    },
    attention({ picture }) {
        mp.FS.writeFile(PICTURE, picture);
        return JSON.parse(page.attention(PICTURE));
    },
    zeros: () => JSON.parse(page.zeros()),
    memory: () => [...JSON.parse(page.memory()), mp._module.HEAP8.length],
    run({ code }) {
        try {
            mp.runPython(code);
            return true;
        } catch (error) {
            if (error.type !== "SystemExit") print(new TextEncoder().encode(`${String(error.message).trim()}\n`));
            return error.type === "SystemExit";
        }
    },
    // A function of page.py by name, with the picture's path behind its parameters.
    ask({ name, parameters, picture }) {
        if (picture) mp.FS.writeFile(PICTURE, picture);
        return JSON.parse(page[name](...parameters, ...(picture ? [PICTURE] : [])));
    },
    write: ({ path, data }) => write(path, data),
    read: ({ path }) => mp.FS.readFile(path),
};

onmessage = async ({ data: { id, method, parameters } }) => {
    // What was pressed before does not concern this call.
    if (flag) Atomics.store(flag, 0, 0);
    try {
        const result = await methods[method](parameters);
        flush();
        postMessage({ id, result });
    } catch (error) {
        flush();
        postMessage({ id, error: words(error) });
    }
};
