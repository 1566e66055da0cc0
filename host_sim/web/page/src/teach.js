// SPDX-License-Identifier: MIT
// Classes taught by pictures: only where the package has a Learner.

import { bar, element, make, percent, problem } from "./dom.js";

const FILE = "/things.learned";

export class Teach {
    #board;
    #see;
    #chip;
    #recorded = []; // {label, picture}, in the order of teaching: taught again after a restart
    #file = null; // bytes of the taught file that was loaded before them
    #holding = null; // the class whose button is held
    #shown = false;
    #queue = Promise.resolve();

    constructor(board, see, chip) {
        this.#board = board;
        this.#see = see;
        this.#chip = chip;
        element("class-form").addEventListener("submit", (event) => {
            event.preventDefault();
            const name = element("class-name").value.trim();
            if (name) this.#class(name);
            element("class-name").value = "";
        });
        element("undo").addEventListener("click", () => this.#do(() => this.#undo()));
        element("taught-save").addEventListener("click", () => this.#do(() => this.#save()));
        element("taught-copy").addEventListener("click", () => this.#do(() => this.#copy()));
        element("taught-open").addEventListener("click", () => element("taught-file").click());
        element("taught-file").addEventListener("change", async ({ target }) => {
            const [file] = target.files;
            target.value = "";
            if (file) await this.#do(async () => this.#load(new Uint8Array(await file.arrayBuffer()), file.name));
        });
        addEventListener("pointerup", () => (this.#holding = null));
        see.addEventListener("frame", () => {
            if (this.#holding) this.#record(this.#holding);
            else this.#guess();
        });
        see.addEventListener("picture", () => this.#guess());
        board.addEventListener("restarted", () => this.#do(() => this.#again()));
    }

    // Another model: what was taught belongs to the one before.
    loaded() {
        this.#recorded = [];
        this.#file = null;
        element("classes").replaceChildren();
        element("guess").replaceChildren();
    }

    shown(chosen) {
        this.#shown = chosen;
        if (chosen) this.#guess();
    }

    #ask(name, parameters = [], picture = null) {
        return this.#board.call("ask", { name, parameters, picture });
    }

    // One after the other; errors are shown in the learner's words.
    #do(action) {
        this.#queue = this.#queue.then(action).then(
            () => problem(null),
            (error) => problem(error),
        );
        return this.#queue;
    }

    #class(label, count = 0) {
        const found = [...element("classes").children].find((button) => button.dataset.label === label);
        const button = found ?? make("button", { type: "button" });
        if (!found) {
            button.dataset.label = label;
            button.append(make("strong", { textContent: label }), make("span"));
            button.addEventListener("pointerdown", () => {
                this.#holding = label;
            });
            // A click, a tap or the keyboard records the picture that is shown.
            button.addEventListener("click", () => this.#record(label));
            element("classes").append(button);
        }
        button.lastChild.textContent = count === 1 ? "1 picture" : `${count} pictures`;
    }

    #counts(counts) {
        for (const button of element("classes").children) this.#class(button.dataset.label, 0);
        for (const [label, count] of Object.entries(counts)) this.#class(label, count);
    }

    #record(label) {
        const picture = this.#see.picture;
        if (!picture) return;
        this.#do(async () => {
            this.#counts(await this.#ask("teach", [label], picture));
            this.#recorded.push({ label, picture });
            await this.#guessNow();
        });
    }

    async #undo() {
        this.#counts(await this.#ask("undo"));
        this.#recorded.pop();
        await this.#guessNow();
    }

    async #again() {
        if (this.#file) await this.#restore();
        for (const { label, picture } of this.#recorded) await this.#ask("teach", [label], picture);
    }

    #guess() {
        if (this.#shown) this.#do(() => this.#guessNow());
    }

    async #guessNow() {
        const picture = this.#see.picture;
        const ranked = picture ? await this.#ask("guess", [], picture) : [];
        element("guess").replaceChildren(
            ...ranked.map(([label, share]) =>
                make("li", {}, make("span", { textContent: label }), bar(share), make("span", { textContent: percent(share) })),
            ),
        );
    }

    async #taught() {
        await this.#ask("save", [FILE]);
        return this.#board.call("read", { path: FILE });
    }

    async #save() {
        const address = URL.createObjectURL(new Blob([await this.#taught()]));
        make("a", { href: address, download: "things.learned" }).click();
        URL.revokeObjectURL(address);
    }

    async #copy() {
        if (!this.#chip.connected) throw new Error("no board is connected: see the panel Your board");
        await this.#chip.write(FILE, await this.#taught());
    }

    async #restore() {
        await this.#board.call("write", { path: FILE, data: this.#file });
        return this.#ask("load_taught", [FILE]);
    }

    async #load(data, name) {
        const before = this.#file;
        this.#file = data;
        try {
            const counts = await this.#restore();
            this.#recorded = [];
            element("classes").replaceChildren();
            this.#counts(counts);
        } catch (error) {
            this.#file = before;
            throw new Error(String(error.message).replace(FILE, name));
        }
        await this.#guessNow();
    }
}
