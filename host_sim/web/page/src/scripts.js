// SPDX-License-Identifier: MIT
// An editor with the scripts of the repository; they run in this page or on a connected board.

import { python } from "@codemirror/lang-python";
import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { tags } from "@lezer/highlight";
import { basicSetup, EditorView } from "codemirror";
import { element } from "./dom.js";

const KEY = "ftervit.script."; // in the browser's storage: edited scripts
// The page's own colours, light and dark.
const COLOURS = HighlightStyle.define([
    { tag: tags.comment, color: "var(--soft)", fontStyle: "italic" },
    { tag: [tags.keyword, tags.operatorKeyword, tags.modifier], color: "var(--accent)", fontWeight: "600" },
    { tag: [tags.string, tags.number, tags.bool, tags.null], color: "var(--warm)" },
    { tag: [tags.definition(tags.variableName), tags.className], color: "var(--ink)", fontWeight: "600" },
]);
const KEPT = 200000; // characters of output

export class Scripts {
    #board;
    #chip;
    #sources = {};
    #editor;
    #name;
    #output = element("output");

    constructor(board, chip) {
        this.#board = board;
        this.#chip = chip;
        board.addEventListener("output", ({ detail }) => {
            if (board.scriptRuns) this.#print(detail);
        });
        element("run").addEventListener("click", () => this.run());
        element("run-chip").addEventListener("click", () => this.#onChip());
        element("script-stop").addEventListener("click", () => this.stop());
        element("script-reset").addEventListener("click", () => {
            localStorage.removeItem(KEY + this.#name);
            this.choose(this.#name);
        });
        element("script-name").addEventListener("change", ({ target }) => this.choose(target.value));
    }

    offer(sources) {
        this.#sources = sources;
        this.#editor = new EditorView({
            extensions: [
                basicSetup,
                python(),
                syntaxHighlighting(COLOURS),
                EditorView.contentAttributes.of({ "aria-label": "Script" }),
                EditorView.updateListener.of((update) => update.docChanged && this.#keep()),
            ],
            parent: element("editor"),
        });
        for (const name of Object.keys(sources)) element("script-name").add(new Option(name));
        this.choose(Object.keys(sources)[0]);
    }

    get text() {
        return this.#editor.state.doc.toString();
    }

    set text(text) {
        this.#editor.dispatch({ changes: { from: 0, to: this.#editor.state.doc.length, insert: text } });
    }

    choose(name) {
        this.#name = name;
        element("script-name").value = name;
        this.text = localStorage.getItem(KEY + name) ?? this.#sources[name];
    }

    #keep() {
        const text = this.text;
        if (text === this.#sources[this.#name]) localStorage.removeItem(KEY + this.#name);
        else localStorage.setItem(KEY + this.#name, text);
    }

    #print(text) {
        const place = this.#output;
        const below = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
        place.textContent = (place.textContent + text.replaceAll("\r", "")).slice(-KEPT);
        if (below) place.scrollTop = place.scrollHeight;
    }

    async run() {
        this.#output.textContent = "";
        this.#board.scriptRuns = true;
        this.#output.dataset.state = "runs";
        try {
            const ended = await this.#board.call("run", { code: this.text });
            this.#output.dataset.state = ended ? "ended" : "failed";
        } catch (error) {
            this.#print(`${error.message}\n`);
            this.#output.dataset.state = "failed";
        } finally {
            this.#board.scriptRuns = false;
        }
        this.#board.dispatchEvent(new Event("changed"));
    }

    async #onChip() {
        this.#output.textContent = "";
        this.#output.dataset.state = "runs";
        const ended = await this.#chip.run(this.text, (text) => this.#print(text));
        this.#output.dataset.state = ended ? "ended" : "failed";
    }

    async stop() {
        if (this.#chip.running) await this.#chip.interrupt();
        else if (this.#board.busy && !this.#board.interrupt()) {
            await this.#board.restart();
            this.#board.dispatchEvent(new Event("restarted"));
            this.#print("interrupted by a restart: this page is not cross-origin isolated\n");
            await this.#board.call("prompt");
        }
    }
}
