// SPDX-License-Identifier: MIT
// Recorded pictures as a zip file of a folder of photos, which `just train` takes as it is.

import { encode } from "fast-png";
import { zipSync } from "fflate";
import { folders } from "./folders.js";
import { raw } from "./pictures.js";

// recorded: {label, picture}, PGM or PPM files; returns the bytes of the zip file. The folder train/ holds the classes,
// so that a class may be called test. Names differ from one export to the next, so that two can be put together.
export function archive(recorded) {
    const names = folders(new Set(recorded.map(({ label }) => label)));
    const session = [...crypto.getRandomValues(new Uint8Array(3))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const files = {};
    recorded.forEach(({ label, picture }, index) => {
        const number = String(index + 1).padStart(4, "0");
        files[`train/${names.get(label)}/${session}-${number}.png`] = encode(raw(picture));
    });
    return zipSync(files, { level: 0 }); // PNG is compressed already
}
