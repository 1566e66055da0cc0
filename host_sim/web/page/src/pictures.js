// SPDX-License-Identifier: MIT
// Pictures on their way to the board: files, photos and video frames become binary PGM or PPM.

const LONGEST = 640; // pixels of the shorter side; a larger photo is scaled down before the board sees it
const HEADER = /^P([56])\s+(?:#[^\n]*\n\s*)*(\d+)\s+(?:#[^\n]*\n\s*)*(\d+)\s+(?:#[^\n]*\n\s*)*(\d+)\s/;

export function isPnm(bytes) {
    return bytes[0] === 0x50 && (bytes[1] === 0x35 || bytes[1] === 0x36);
}

// Whether a PGM or PPM file is a PPM.
export function isColour(bytes) {
    return bytes[1] === 0x36;
}

// RGBA pixels as a PPM file.
export function ppm({ data, width, height }, invert = false) {
    const header = new TextEncoder().encode(`P6 ${width} ${height} 255\n`);
    const out = new Uint8Array(header.length + width * height * 3);
    out.set(header);
    const flip = invert ? 255 : 0;
    for (let from = 0, to = header.length; from < data.length; from += 4, to += 3) {
        out[to] = data[from] ^ flip;
        out[to + 1] = data[from + 1] ^ flip;
        out[to + 2] = data[from + 2] ^ flip;
    }
    return out;
}

// A PGM or PPM file as {width, height, channels, data}, or null if it is not one that can be shown.
export function raw(bytes) {
    const found = HEADER.exec(new TextDecoder("latin1").decode(bytes.subarray(0, 512)));
    if (!found) return null;
    const [header, kind, width, height] = [found[0], found[1], Number(found[2]), Number(found[3])];
    const channels = kind === "5" ? 1 : 3;
    const end = header.length + width * height * channels;
    if (!width || !height || bytes.length < end) return null;
    return { width, height, channels, data: bytes.subarray(header.length, end) };
}

// The same as RGBA pixels.
export function pixels(bytes) {
    const found = raw(bytes);
    return found && rgba(found.data, found.width, found.height, found.channels);
}

// uint8 [height, width, channels] as RGBA pixels.
export function rgba(data, width, height, channels) {
    const out = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
        for (let c = 0; c < 3; c++) out.data[4 * i + c] = data[channels * i + (channels === 1 ? 0 : c)];
        out.data[4 * i + 3] = 255;
    }
    return out;
}

// Light and dark of a PGM or PPM file exchanged.
export function inverted(bytes) {
    const image = pixels(bytes);
    return image ? ppm(image, true) : bytes;
}

// The middle square of a video frame or bitmap as RGBA pixels.
export function square(source, width, height, side) {
    const canvas = new OffscreenCanvas(side, side);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const cut = Math.min(width, height);
    context.drawImage(source, (width - cut) / 2, (height - cut) / 2, cut, cut, 0, 0, side, side);
    return context.getImageData(0, 0, side, side);
}

// A file as {name, pnm, image}: what the board gets, and RGBA pixels to show (null for what the board will refuse).
export async function fromFile(file) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    if (isPnm(bytes)) return { name: file.name, pnm: bytes, image: pixels(bytes) };
    let bitmap;
    try {
        bitmap = await createImageBitmap(file);
    } catch {
        throw new Error(`${file.name}: not a picture that this browser can read (JPEG, PNG, WebP, PGM, PPM ...)`);
    }
    const scale = Math.min(1, LONGEST / Math.min(bitmap.width, bitmap.height));
    const side = Math.max(1, Math.round(Math.min(bitmap.width, bitmap.height) * scale));
    const image = square(bitmap, bitmap.width, bitmap.height, side);
    bitmap.close();
    return { name: file.name, pnm: ppm(image), image };
}

export function draw(canvas, image) {
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d").putImageData(image, 0, 0);
}
