// SPDX-License-Identifier: MIT
// Attention of the class token in each block, and the share of zeros of each layer.

import { bar, element, make, percent } from "./dom.js";
import { pixels, square } from "./pictures.js";

const SIDE = 224; // pixels of a map
const PAUSE_MS = 400; // between two looks at the webcam

export class Inside {
    #board;
    #see;
    #shown = false;
    #running = false;
    #wanted = false;

    constructor(board, see) {
        this.#board = board;
        this.#see = see;
        see.addEventListener("picture", () => this.#update());
        see.addEventListener("frame", () => this.#update());
    }

    shown(chosen) {
        this.#shown = chosen;
        if (chosen) this.#update();
    }

    async #update() {
        this.#wanted = true;
        if (!this.#shown || this.#running || !this.#see.picture) return;
        this.#running = true;
        while (this.#wanted && this.#shown) {
            this.#wanted = false;
            const picture = this.#see.picture;
            try {
                await this.#maps(picture, await this.#board.call("attention", { picture }));
                this.#zeros(await this.#board.call("zeros"));
            } catch (error) {
                element("attention").replaceChildren(make("p", { className: "note", textContent: error.message }));
                element("zeros").replaceChildren();
            }
            if (this.#see.streaming) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
        }
        this.#running = false;
    }

    async #maps(picture, blocks) {
        const image = pixels(picture);
        if (!image) return;
        const bitmap = await createImageBitmap(image);
        const background = square(bitmap, bitmap.width, bitmap.height, SIDE);
        const figures = blocks.map((weights, block) => {
            const grid = Math.round(Math.sqrt(weights.length));
            const most = Math.max(1, ...weights);
            const canvas = make("canvas", { width: SIDE, height: SIDE });
            canvas.setAttribute("role", "img");
            canvas.setAttribute("aria-label", `Attention of the class token in block ${block}`);
            const context = canvas.getContext("2d");
            context.putImageData(background, 0, 0);
            const size = SIDE / grid;
            weights.forEach((weight, patch) => {
                const [x, y] = [(patch % grid) * size, Math.floor(patch / grid) * size];
                context.fillStyle = `rgb(10 20 18 / ${0.72 * (1 - weight / most)})`;
                context.fillRect(x, y, size, size);
                context.fillStyle = `rgb(240 170 70 / ${0.6 * (weight / most) ** 2})`;
                context.fillRect(x, y, size, size);
            });
            return make("figure", {}, canvas, make("figcaption", { textContent: `Block ${block}` }));
        });
        element("attention").replaceChildren(...figures);
    }

    #zeros(layers) {
        element("zeros").replaceChildren(
            ...layers.map(([name, inputs, outputs, share]) =>
                make(
                    "div",
                    { title: `${outputs} × ${inputs} weights` },
                    make("span", { textContent: name }),
                    bar(share),
                    make("span", { textContent: percent(share) }),
                ),
            ),
        );
    }
}
