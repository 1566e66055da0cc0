// SPDX-License-Identifier: MIT
import { Board } from "./board.js";
import { Chip } from "./chip.js";
import { element, problem, show } from "./dom.js";
import { Inside } from "./inside.js";
import { Repl } from "./repl.js";
import { Scripts } from "./scripts.js";
import { See } from "./see.js";
import { Teach } from "./teach.js";

const board = new Board();
const see = new See(board, forPhotos);
const inside = new Inside(board, see);
const repl = new Repl(board);
const chip = new Chip(see);
const scripts = new Scripts(board, chip);
const teach = new Teach(board, see, chip);
const panels = { inside, teach, repl, script: scripts, chip };

function select(name) {
    for (const [other, panel] of Object.entries(panels)) {
        const chosen = other === name;
        const tab = element(`tab-${other}`);
        tab.setAttribute("aria-selected", chosen);
        tab.tabIndex = chosen ? 0 : -1;
        element(other).hidden = !chosen;
        panel.shown?.(chosen);
    }
    if (name === "teach") forPhotos();
}

function tabs() {
    const all = [...document.querySelectorAll("[role=tab]")];
    for (const tab of all) {
        tab.addEventListener("click", () => select(tab.getAttribute("aria-controls")));
        tab.addEventListener("keydown", (event) => {
            const there = all.filter((other) => !other.hidden);
            const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
            if (!step) return;
            const next = there[(there.indexOf(tab) + step + there.length) % there.length];
            select(next.getAttribute("aria-controls"));
            next.focus();
        });
    }
}

// photos: the model that was made for colour pictures; made: whether one was chosen; turn: counts choices, of which the last
// one counts; done: resolves when the one that is being loaded is loaded.
const choice = { photos: null, made: false, turn: 0, done: Promise.resolve() };

// The webcam, photos and teaching begin with the model that was made for them, unless the user has chosen another.
async function forPhotos() {
    if (!document.body.dataset.ready || choice.made) return;
    choice.made = true;
    if (choice.photos) await load(choice.photos);
}

async function models(names) {
    const chooser = element("model");
    for (const name of names) chooser.add(new Option(name.replace(".safetensors", ""), name));
    chooser.addEventListener("change", () => {
        choice.made = true;
        load(chooser.value);
    });
    element("model-open").addEventListener("click", () => element("model-file").click());
    element("model-file").addEventListener("change", async ({ target }) => {
        const [file] = target.files;
        target.value = "";
        if (file) await use(file.name, () => file.arrayBuffer(), true);
    });
}

function load(name) {
    const fetched = async () => {
        const answer = await fetch(`models/${name}`);
        if (!answer.ok) throw new Error(`models/${name}: ${answer.status} ${answer.statusText}`);
        return answer.arrayBuffer();
    };
    return use(name, fetched, false);
}

// Loads a model after those before it, unless another was chosen meanwhile. What the reader refuses is shown in its words, and
// the model that was there stays.
async function use(name, read, added) {
    const turn = ++choice.turn;
    choice.made ||= added;
    try {
        const data = new Uint8Array(await read());
        const put = choice.done.then(() => (turn === choice.turn ? give(name, data, added) : null));
        choice.done = put.catch(() => {});
        await put;
    } catch (error) {
        if (turn !== choice.turn) return;
        const chooser = element("model");
        if (chooser.dataset.loaded) chooser.value = chooser.dataset.loaded;
        problem(error);
    }
}

// Hands a model to the board and to the panels.
async function give(name, data, added) {
    const chooser = element("model");
    const about = await board.load(`/models/${name}`, data);
    problem(null);
    if (added && ![...chooser.options].some((option) => option.value === name)) {
        const option = new Option(`${name.replace(".safetensors", "")} (from disk)`, name);
        option.disabled = true; // its bytes are not kept: choose it again with the button
        chooser.add(option);
    }
    chooser.value = name;
    chooser.dataset.loaded = name;
    chip.model = { name, data };
    teach.loaded(name);
    see.loaded(about);
}

// What was typed or run may have changed the model; a webcam shows it by itself.
for (const event of ["changed", "restarted"]) board.addEventListener(event, () => see.again());

async function main() {
    tabs();
    if ("serviceWorker" in navigator) navigator.serviceWorker.register("sw.js").catch(() => {});
    const contents = await (await fetch("contents.json")).json();
    await models(contents.models);
    choice.photos = contents.photos;
    scripts.offer(contents.scripts);
    await board.start();
    await repl.start();
    chip.offer(await board.call("ask", { name: "cameras", parameters: [] }));
    await load(contents.models[0]);
    await see.samples(contents.images);
    show("state", `ready in ${(performance.now() / 1000).toFixed(1)} s`);
    document.body.dataset.ready = "yes";
    if (!element("teach").hidden) await forPhotos();
}

select("inside");
// For the console, and for tests.
globalThis.ftervit = { board, see, chip };
main().catch(problem);
