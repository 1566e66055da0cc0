// SPDX-License-Identifier: MIT
// Writes a flash image to an ESP32-S3 with esptool-js. Never run on a physical board.

import { ESPLoader, Transport } from "esptool-js";

const BAUD = 460800;
const MAGIC = 0xe9; // first byte of an image from address 0 on: the bootloader's

export async function flash(port, image, name, { say, progress }) {
    if (image[0] !== MAGIC) throw new Error(`${name}: not a flash image of an ESP32 (its first byte is not 0xE9)`);
    const transport = new Transport(port);
    const terminal = { clean() {}, write: say, writeLine: say };
    try {
        const loader = new ESPLoader({ transport, baudrate: BAUD, terminal });
        const chip = await loader.main();
        if (!chip.includes("ESP32-S3")) throw new Error(`${chip} is connected; the firmware is for an ESP32-S3`);
        await loader.writeFlash({
            fileArray: [{ data: image, address: 0 }],
            flashMode: "keep",
            flashFreq: "keep",
            flashSize: "keep",
            eraseAll: false,
            compress: true,
            reportProgress: (_, written, total) => progress(written / total),
        });
        await loader.after("hard_reset");
        say(`${name}: written; connect to the board now`);
    } finally {
        await transport.disconnect();
    }
}
