// SPDX-License-Identifier: MIT
// The picture, what the network says of it, and the webcam.

import { bar, element, make, message, percent, problem, show } from "./dom.js";
import { draw, fromFile, inverted, isColour, pixels, ppm, rgba, square } from "./pictures.js";

const SHOWN = 5; // labels
// Below this probability the page says "unknown", unless the model has a threshold of its own. Of 200 classes the best
// often gets less: from 40 % on, eyes names 56 % of pictures held out, and 66 % of these rightly.
const unsureBelow = (labels) => (labels.length > 20 ? 0.4 : 0.5);
const CAMERA_SIDE = 240; // pixels, as classify_camera.py has them

function pressed({ button, on, off }, running) {
    element(button).textContent = running ? on : off;
    element(button).setAttribute("aria-pressed", running);
}

// The webcam, shown as a video.
class Webcam {
    button = "camera";
    on = "Stop webcam";
    off = "Start webcam";
    name = "webcam";
    #stream;

    static async open() {
        const made = new Webcam();
        made.#stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
        const video = element("video");
        video.srcObject = made.#stream;
        await video.play();
        element("picture").hidden = true;
        video.hidden = false;
        return made;
    }

    async frame() {
        const video = element("video");
        if (!video.videoWidth) return null;
        const image = square(video, video.videoWidth, video.videoHeight, CAMERA_SIDE);
        return { pnm: ppm(image), image };
    }

    async close() {
        for (const track of this.#stream.getTracks()) track.stop();
        const video = element("video");
        video.srcObject = null;
        video.hidden = true;
        element("picture").hidden = false;
    }
}

export class See extends EventTarget {
    #board;
    #last = null; // {name, pnm, image} as chosen, before inversion
    #about = null;
    #source = null; // where frames come from: a Webcam, or a board's camera
    #times = [];
    #forPhotos;

    // forPhotos: called before the webcam or the first file in colour is seen.
    constructor(board, forPhotos) {
        super();
        this.#board = board;
        this.#forPhotos = forPhotos;
        element("choose").addEventListener("click", () => element("files").click());
        element("files").addEventListener("change", ({ target }) => {
            const files = [...target.files];
            target.value = "";
            this.take(files);
        });
        element("camera").addEventListener("click", () => this.#webcam());
        element("invert").addEventListener("change", () => this.again());
        addEventListener("paste", (event) => {
            const files = [...(event.clipboardData?.files ?? [])];
            if (files.length) this.take(files);
        });
        const drop = element("drop");
        addEventListener("dragover", (event) => {
            event.preventDefault();
            drop.classList.add("over");
        });
        addEventListener("dragleave", () => drop.classList.remove("over"));
        addEventListener("drop", (event) => {
            event.preventDefault();
            drop.classList.remove("over");
            this.take([...event.dataTransfer.files]);
        });
    }

    get streaming() {
        return this.#source !== null;
    }

    shows(source) {
        return this.#source !== null && this.#source === source;
    }

    // What the board got last, or null.
    get picture() {
        return this.#last && this.#asWanted(this.#last);
    }

    #asWanted({ pnm }) {
        return element("invert").checked ? inverted(pnm) : pnm;
    }

    loaded(about) {
        this.#about = about;
        show("seen-size", `${about.side} × ${about.side}, ${about.channels === 1 ? "grey" : "colour"}`);
        this.again();
    }

    async again() {
        if (this.#last && !this.#source) await this.classify(this.#last);
        this.dispatchEvent(new Event("picture"));
    }

    // Files one after the other; the last one stays.
    async take(files) {
        await this.stop();
        for (const file of files) {
            try {
                const taken = await fromFile(file);
                if (isColour(taken.pnm)) await this.#forPhotos();
                await this.classify(taken);
            } catch (error) {
                problem(error);
            }
        }
        this.dispatchEvent(new Event("picture"));
    }

    // Shows a picture and what the network says; an error is shown, too. Returns the result or null.
    async classify(taken) {
        this.#last = taken;
        const canvas = element("picture");
        if (taken.image && !(this.#source instanceof Webcam)) {
            draw(canvas, taken.image);
            canvas.classList.toggle("photo", taken.image.width > 100);
        }
        show("picture-name", taken.name);
        try {
            const picture = this.#asWanted(taken);
            const found = await this.#board.call("look", { picture });
            this.#show(found);
            problem(null);
            return found;
        } catch (error) {
            const words = String(error.message).replace("/tmp/picture", taken.name);
            problem(new Error(words));
            show("verdict", "–");
            element("bars").replaceChildren();
            return null;
        }
    }

    #show({ ranked, ms, seen }) {
        const { side, channels, decides, labels } = this.#about;
        if (seen.length === side * side * channels) draw(element("seen"), rgba(seen, side, side, channels));
        const [label, confidence] = ranked[0];
        const unsure = label === "unknown" || (confidence < unsureBelow(labels) && !decides);
        const verdict = element("verdict");
        verdict.textContent = unsure ? "unknown" : label;
        verdict.classList.toggle("unsure", unsure);
        const now = performance.now();
        this.#times = [...this.#times.filter((time) => now - time < 2000), now];
        const rate = this.#source && this.#times.length > 2 ? `, ${(this.#times.length / 2).toFixed(this.#times.length < 10 ? 1 : 0)} pictures/s` : "";
        show("speed", `${ms.toFixed(1)} ms a picture${rate}`);
        element("bars").replaceChildren(
            ...ranked
                .slice(0, SHOWN)
                .map(([name, share]) =>
                    make(
                        "li",
                        {},
                        make("span", { textContent: name, title: name }),
                        bar(share),
                        make("span", { textContent: percent(share) }),
                    ),
                ),
        );
    }

    async #webcam() {
        const runs = this.#source instanceof Webcam;
        await this.stop();
        if (runs) return;
        try {
            const webcam = await Webcam.open();
            await this.#forPhotos();
            await this.start(webcam);
        } catch (error) {
            problem(new Error(`the webcam does not start: ${error.message}`));
        }
    }

    // Classifies frames of a source until it ends. A source has `button`, `on` and `off` (its words), name, frame()
    // ({pnm, image}, or null) and close().
    async start(source) {
        await this.stop();
        this.#source = source;
        this.#times = [];
        pressed(source, true);
        this.#follow(source);
    }

    async #follow(source) {
        while (this.#source === source) {
            try {
                const frame = document.hidden ? null : await source.frame();
                if (frame && this.#source === source) {
                    await this.classify({ name: source.name, ...frame });
                    this.dispatchEvent(new Event("frame"));
                }
            } catch (error) {
                // Another source may have taken its place.
                if (this.#source === source) await this.stop();
                problem(error);
                return;
            }
            // A frame of the screen, so that the page stays quick.
            await new Promise((resolve) => setTimeout(resolve, 16));
        }
    }

    // Ends what start began; the last frame stays.
    async stop() {
        const source = this.#source;
        if (!source) return;
        this.#source = null;
        pressed(source, false);
        await source.close();
        if (this.#last?.image) draw(element("picture"), this.#last.image);
        this.dispatchEvent(new Event("picture"));
    }

    // Small buttons with the test pictures.
    async samples(paths) {
        const place = element("samples");
        for (const path of paths) {
            const answer = await this.#board.call("read", { path });
            const name = path.split("/").pop();
            const image = pixels(answer);
            const canvas = make("canvas");
            draw(canvas, image);
            const button = make("button", { type: "button", title: name }, canvas);
            button.setAttribute("aria-label", `Test picture ${name}`);
            button.addEventListener("click", async () => {
                await this.stop();
                this.classify({ name, pnm: answer, image }).then(() => this.dispatchEvent(new Event("picture")));
            });
            place.append(button);
        }
        place.lastChild?.click();
        message("ready");
    }
}
