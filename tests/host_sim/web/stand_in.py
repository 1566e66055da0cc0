# SPDX-License-Identifier: MIT
"""A serial port for the page that leads to a terminal: Web Serial's interface in JavaScript, and its other end.

GET /serial/read streams what the board sends, POST /serial/write hands over what the page sends, and POST
/serial/signals the lines DTR and RTS. The terminal is that of a virtual board or of a ROM bootloader (rom.py).
"""

import contextlib
import json
import os
import select
import threading
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from host_sim.web.server import Handler

# Replaces navigator.serial: the page's own code asks for the port, opens, reads, writes and closes it. When the other
# end goes away, it does what a browser does for a device that is pulled out: NetworkError and the event "disconnect".
SERIAL = """
class Port extends EventTarget {
    readable = null;
    writable = null;
    #gone() {
        const error = new DOMException("The device has been lost.", "NetworkError");
        if (this.readable) this.dispatchEvent(new Event("disconnect"));
        this.readable = this.writable = null;
        return error;
    }
    async open({ baudRate }) {
        if (!baudRate) throw new TypeError("open: baudRate is missing");
        if (this.stop) throw new DOMException("The port is already open.", "InvalidStateError");
        const stop = (this.stop = new AbortController());
        const { body } = await fetch(`/serial/read?baud=${baudRate}`, { signal: stop.signal });
        const reader = body.getReader();
        this.readable = new ReadableStream({
            pull: async (controller) => {
                const { value, done } = await reader.read();
                if (!done) controller.enqueue(value);
                else controller.error(this.#gone());
            },
            cancel: () => stop.abort(),
        });
        this.writable = new WritableStream({
            write: async (chunk) => {
                if (!(chunk instanceof Uint8Array)) throw new TypeError("write: not bytes");
                const answer = await fetch("/serial/write", { method: "POST", body: chunk.slice() });
                if (!answer.ok) throw this.#gone();
            },
        });
    }
    async close() {
        if (this.readable?.locked || this.writable?.locked) throw new TypeError("close: a stream is locked");
        if (!this.stop) throw new DOMException("The port is already closed.", "InvalidStateError");
        this.stop.abort();
        this.stop = this.readable = this.writable = null;
    }
    async setSignals(signals) {
        await fetch("/serial/signals", { method: "POST", body: JSON.stringify(signals) });
    }
    getInfo = () => ({ usbVendorId: 0x10c4, usbProductId: 0xea60 });
}
const port = new Port();
Object.defineProperty(navigator, "serial", { value: { requestPort: async () => port } });
"""


class Chip(Protocol):
    """What is behind a terminal that has more than bytes."""

    baud: int

    def signals(self, dtr: bool | None, rts: bool | None) -> None:
        """The lines changed; None: as before."""


class SerialHandler(Handler):
    """The site's files, and the board whose device `device` names."""

    protocol_version = "HTTP/1.1"  # one connection for all that the page writes
    device = ""
    chip: Chip | None = None
    terminal = -1
    closing = threading.Lock()  # of the terminal, whose number the next one may get

    def do_GET(self) -> None:
        """Files, or the board's bytes until either end is gone."""
        address = urlsplit(self.path)
        if address.path != "/serial/read":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.chip:
            self.chip.baud = int(parse_qs(address.query)["baud"][0])
        terminal = SerialHandler.terminal = os.open(self.device, os.O_RDWR | os.O_NOCTTY)
        self.close_connection = True
        try:
            while True:
                ready, _, _ = select.select([terminal, self.connection], [], [])
                if self.connection in ready:
                    return
                data = os.read(terminal, 4096)
                if not data:
                    return
                self.wfile.write(data)
                self.wfile.flush()
        except OSError:
            return
        finally:
            with self.closing:
                os.close(terminal)
                if SerialHandler.terminal == terminal:
                    SerialHandler.terminal = -1

    def do_POST(self) -> None:
        """Bytes for the board, or lines of its port."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        status = 204
        if self.path == "/serial/signals":
            if self.chip:
                lines = json.loads(data)
                self.chip.signals(lines.get("dataTerminalReady"), lines.get("requestToSend"))
        else:
            try:
                with self.closing:
                    terminal = os.dup(self.terminal)
                with open(terminal, "wb", buffering=0) as device:
                    while data:
                        data = data[device.write(data) :]
            except OSError:
                status = 410
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.end_headers()
