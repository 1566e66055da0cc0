# SPDX-License-Identifier: MIT
"""A serial port for the page that leads to a virtual board: Web Serial's interface in JavaScript, and its other end.

GET /serial/read streams what the board sends, POST /serial/write hands over what the page sends.
"""

import os
import select

from host_sim.web.server import Handler

# Replaces navigator.serial: the page's own code asks for the port, opens, reads, writes and closes it.
SERIAL = """
const port = {
    readable: null,
    writable: null,
    async open({ baudRate }) {
        if (!baudRate) throw new TypeError("open: baudRate is missing");
        if (this.readable) throw new DOMException("The port is already open.", "InvalidStateError");
        this.stop = new AbortController();
        this.readable = (await fetch("/serial/read", { signal: this.stop.signal })).body;
        this.writable = new WritableStream({
            write: async (chunk) => {
                if (!(chunk instanceof Uint8Array)) throw new TypeError("write: not bytes");
                await fetch("/serial/write", { method: "POST", body: chunk.slice() });
            },
        });
    },
    async close() {
        if (this.readable.locked || this.writable.locked) throw new TypeError("close: a stream is locked");
        this.stop.abort();
        this.readable = this.writable = null;
    },
    getInfo: () => ({}),
};
Object.defineProperty(navigator, "serial", { value: { requestPort: async () => port } });
"""


class SerialHandler(Handler):
    """The site's files, and the board whose device `device` names."""

    protocol_version = "HTTP/1.1"  # one connection for all that the page writes
    device = ""
    terminal = -1

    def do_GET(self) -> None:
        """Files, or the board's bytes until either end is gone."""
        if self.path != "/serial/read":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        terminal = SerialHandler.terminal = os.open(self.device, os.O_RDWR | os.O_NOCTTY)
        try:
            while True:
                ready, _, _ = select.select([terminal, self.connection], [], [])
                if self.connection in ready:
                    return
                self.wfile.write(os.read(terminal, 4096))
                self.wfile.flush()
        except OSError:
            return
        finally:
            os.close(terminal)

    def do_POST(self) -> None:
        """Bytes for the board."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        while data:
            data = data[os.write(self.terminal, data) :]
        self.send_response(204)
        self.end_headers()
