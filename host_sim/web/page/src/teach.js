// SPDX-License-Identifier: MIT
// Classes taught by pictures: recorded from the webcam, a board's camera or files; tested, kept, and exported.

import { bar, download, element, make, percent, problem, show } from "./dom.js";
import { refusal } from "./folders.js";

const FILE = "/things.learned";
const BASE = "/tmp/base.learned"; // the taught file that was loaded, for page.py
const RECORD_MS = 120; // between two pictures while a button is held
const SHOWN = 6; // classes of the live guess

export class Teach {
    #board;
    #see;
    #chip;
    #recorded = []; // {label, picture, take, taught}, in the order of teaching
    #base = null; // bytes of the taught file that they came on top of
    #take = 0; // counts presses of a class's button
    #pressed = null; // the class whose button is pressed
    #holding = null; // the same while it is held
    #last = 0; // when a picture was recorded last
    #recording = false;
    #guessing = false;
    #wanted = false;
    #shown = false;
    #kept = true; // whether all that is taught was saved, copied or exported
    #queue = Promise.resolve();

    constructor(board, see, chip) {
        this.#board = board;
        this.#see = see;
        this.#chip = chip;
        element("class-form").addEventListener("submit", (event) => {
            event.preventDefault();
            this.#add(element("class-name").value.trim());
        });
        for (const [id, action] of Object.entries({
            undo: () => this.#undo(),
            judge: () => this.#judge(),
            "taught-save": () => this.#save(),
            "taught-copy": () => this.#copy(),
            "taught-export": () => this.#export(),
        })) {
            element(id).addEventListener("click", () => this.#do(action));
        }
        element("taught-open").addEventListener("click", () => element("taught-file").click());
        element("taught-file").addEventListener("change", async ({ target }) => {
            const [file] = target.files;
            target.value = "";
            if (file) await this.#do(async () => this.#load(new Uint8Array(await file.arrayBuffer()), file.name));
        });
        for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => (this.#holding = null));
        addEventListener("keyup", () => (this.#holding = null));
        see.addEventListener("frame", () => {
            if (!this.#holding) this.#guess();
            else if (!this.#recording && performance.now() - this.#last > RECORD_MS) this.#record(this.#holding);
        });
        see.addEventListener("picture", () => this.#guess());
        board.addEventListener("restarted", () => this.#do(() => this.#again()));
        addEventListener("beforeunload", (event) => {
            if (!this.#kept) event.preventDefault();
        });
    }

    // Another model: its learner is taught the recorded pictures; a taught file belongs to the model before.
    loaded(name) {
        const dropped = this.#base !== null;
        this.#base = null;
        this.#outdated();
        element("guess").replaceChildren();
        this.#do(async () => {
            await this.#again();
            const words = dropped ? "; the file that was loaded belongs to another model and is left out" : "";
            show("teach-state", `Learns with ${name.replace(".safetensors", "")}${words}.`);
        });
    }

    shown(chosen) {
        this.#shown = chosen;
        if (chosen) this.#guess();
    }

    async #ask(name, parameters = [], picture = null) {
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

    #add(label) {
        const wrong = refusal(label);
        if (wrong) problem(new Error(wrong));
        if (!label || wrong) return;
        this.#class(label, this.#recorded.filter((each) => each.label === label).length);
        element("class-name").value = "";
    }

    #class(label, count) {
        const found = [...element("classes").children].find((button) => button.dataset.label === label);
        const button = found ?? make("button", { type: "button" });
        if (!found) {
            button.dataset.label = label;
            button.append(make("strong", { textContent: label }), make("span"));
            const press = () => {
                this.#pressed = this.#holding = label;
                this.#take++;
            };
            button.addEventListener("pointerdown", press);
            button.addEventListener("keydown", (event) => {
                if (event.key !== " " && event.key !== "Enter") return;
                if (!event.repeat) press();
                else if (event.key === "Enter") event.preventDefault(); // it would click again and again
            });
            button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch records
            // What a screen reader activates is clicked without a press.
            button.addEventListener("click", () => {
                if (this.#pressed !== label) this.#take++;
                this.#pressed = this.#holding = null;
                this.#record(label);
            });
            element("classes").append(button);
        }
        button.lastChild.textContent = count === 1 ? "1 picture" : `${count} pictures`;
    }

    #counts(counts) {
        for (const button of element("classes").children) this.#class(button.dataset.label, 0);
        for (const [label, count] of Object.entries(counts)) this.#class(label, count);
    }

    // What is taught is another than before: a table of it would be too old.
    #outdated() {
        element("confusion").hidden = true;
        show("judged", "");
    }

    // The pictures that the learner knows; page.py numbers them in this order.
    get #known() {
        return this.#recorded.filter(({ taught }) => taught);
    }

    #record(label) {
        const { picture } = this.#see;
        const take = this.#take;
        if (!picture) return;
        this.#recording = true;
        this.#last = performance.now();
        this.#do(async () => {
            try {
                this.#counts(await this.#ask("teach", [label], picture));
                // The same picture again is no other look at a thing.
                const same = this.#recorded.find((each) => equal(each.picture, picture));
                this.#recorded.push({ label, picture, take: same?.take ?? take, taught: true });
                this.#kept = false;
                this.#outdated();
                await this.#guessNow();
            } finally {
                this.#recording = false;
            }
        });
    }

    async #undo() {
        this.#counts(await this.#ask("undo"));
        const some = this.#known.at(-1);
        this.#recorded = this.#recorded.filter((each) => each !== some);
        // The last picture of the file that was loaded: what is left of it is the base now.
        if (!some && this.#base) {
            const left = [...element("classes").children].some((button) => !button.lastChild.textContent.startsWith("0 "));
            this.#base = left ? await this.#taught() : null;
            if (left) await this.#restore();
        }
        this.#kept ||= !this.#recorded.length && !this.#base;
        this.#outdated();
        await this.#guessNow();
    }

    // Teaches a new learner all that was recorded.
    async #again() {
        // What was recorded since the model was loaded is among what follows.
        this.#counts(this.#base ? await this.#restore() : await this.#ask("start_lesson"));
        for (const each of this.#recorded) each.taught = false;
        for (const [index, each] of this.#recorded.entries()) {
            if (this.#recorded.length > 20) show("teach-state", `teaching ${index + 1} of ${this.#recorded.length} …`);
            this.#counts(await this.#ask("teach", [each.label], each.picture));
            each.taught = true;
        }
        show("teach-state", "");
        await this.#guessNow();
    }

    #guess() {
        if (!this.#shown) return;
        this.#wanted = this.#guessing;
        if (this.#guessing) return;
        this.#guessing = true;
        this.#do(() => this.#guessNow()).finally(() => {
            this.#guessing = false;
            if (this.#wanted) this.#guess(); // there is another picture by now
        });
    }

    async #guessNow() {
        const { picture } = this.#see;
        const ranked = picture ? await this.#ask("guess", [], picture) : [];
        element("guess").replaceChildren(
            ...ranked
                .slice(0, SHOWN)
                .map(([label, share]) =>
                    make("li", {}, make("span", { textContent: label, title: label }), bar(share), make("span", { textContent: percent(share) })),
                ),
        );
    }

    // A table of what it answers for each take's pictures when it is taught everything else.
    async #judge() {
        const known = this.#known;
        if (!known.length) throw new Error("nothing has been recorded that could be tested: press a class's button first");
        const answers = [];
        let done = 0;
        for (const indices of Map.groupBy(known.keys(), (index) => known[index].take).values()) {
            show("judged", `testing ${done} of ${known.length} …`);
            const said = await this.#ask("judge", [JSON.stringify(indices)]);
            indices.forEach((index, at) => (answers[index] = said[at]));
            done += indices.length;
        }
        this.#table(known.map(({ label }, index) => ({ label, answer: answers[index] })));
    }

    // results: {label, answer}; answer is null where the class was recorded in one press only.
    #table(results) {
        const labels = [...new Set(results.map(({ label }) => label))];
        const judged = results.filter(({ answer }) => answer !== null);
        const right = judged.filter(({ label, answer }) => label === answer).length;
        const once = labels.filter((label) => results.some((each) => each.label === label && each.answer === null));
        const parts = [judged.length ? `${right} of ${judged.length} right (${percent(right / judged.length)}).` : "Nothing could be tested."];
        if (once.length) {
            const them = once.length === 1 ? "it" : "them";
            parts.push(`Not tested: ${once.join(", ")}, recorded in one press only; press again to have ${them} tested.`);
        }
        show("judged", parts.join(" "));
        const answers = [...new Set([...labels, ...judged.map(({ answer }) => answer).filter((answer) => answer !== "unknown")])];
        if (judged.some(({ answer }) => answer === "unknown")) answers.push("unknown");
        const rows = [...new Set(judged.map(({ label }) => label))].map((label) => {
            const mine = judged.filter((each) => each.label === label);
            const cells = answers.map((answer) => {
                const count = mine.filter((each) => each.answer === answer).length;
                const cell = make("td", { textContent: count, className: answer === label ? "right" : count ? "wrong" : "none" });
                cell.style.setProperty("--share", count / mine.length);
                return cell;
            });
            return make("tr", {}, make("th", { scope: "row", textContent: label }), ...cells);
        });
        if (!rows.length) return;
        const head = make("tr", {}, make("td"), ...answers.map((label) => make("th", { scope: "col", textContent: label })));
        element("confusion").hidden = false;
        element("confusion").replaceChildren(
            make(
                "table",
                {},
                make("caption", { textContent: "Rows: recorded. Columns: taken for." }),
                make("thead", {}, head),
                make("tbody", {}, ...rows),
            ),
        );
    }

    async #taught() {
        await this.#ask("save", [FILE]);
        return this.#board.call("read", { path: FILE });
    }

    async #save() {
        download("things.learned", await this.#taught());
        this.#kept = true;
        show("teach-state", "Saved as things.learned.");
    }

    async #copy() {
        if (!this.#chip.connected) throw new Error("no board is connected: see the panel Your board");
        await this.#chip.write(FILE, await this.#taught());
        this.#kept = true;
        show("teach-state", `Copied to the board as ${FILE}.`);
    }

    async #export() {
        const count = this.#recorded.length;
        if (!count) throw new Error("nothing has been recorded that could be exported: a taught file holds no pictures");
        const { archive } = await import("./export.js");
        download("pictures.zip", archive(this.#recorded));
        this.#kept = true;
        show("teach-state", `Exported ${count === 1 ? "1 picture" : `${count} pictures`}; to train with them: just train --config trainer/configs/my_pictures.toml data.path=pictures.zip`);
    }

    async #restore() {
        await this.#board.call("write", { path: BASE, data: this.#base });
        return this.#ask("load_taught", [BASE]);
    }

    async #load(data, name) {
        const words = "Loading a file forgets what was recorded and not saved or exported. Load it?";
        if (!this.#kept && !confirm(words)) return;
        const before = this.#base;
        this.#base = data;
        try {
            const counts = await this.#restore();
            this.#recorded = [];
            element("classes").replaceChildren();
            this.#counts(counts);
        } catch (error) {
            this.#base = before;
            if (before) await this.#board.call("write", { path: BASE, data: before });
            throw new Error(String(error.message).replace(BASE, name));
        }
        this.#kept = true;
        this.#outdated();
        await this.#guessNow();
    }
}

function equal(one, other) {
    return one.length === other.length && one.every((byte, i) => byte === other[i]);
}
