// SPDX-License-Identifier: MIT
export const element = (id) => document.getElementById(id);

export function show(id, text) {
    element(id).textContent = text;
}

export function make(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
}

export const message = (text) => show("state", text);

// Shows an error in one line at the top; null takes it away.
export function problem(error) {
    const place = element("problem");
    place.hidden = error === null;
    place.textContent = error === null ? "" : String(error.message ?? error);
}

export function bar(share) {
    const inner = make("i");
    inner.style.width = `${(100 * share).toFixed(1)}%`;
    return make("div", { className: "track" }, inner);
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

// Hands bytes to the browser as a file to keep.
export function download(name, bytes) {
    const address = URL.createObjectURL(new Blob([bytes]));
    make("a", { href: address, download: name }).click();
    URL.revokeObjectURL(address);
}
