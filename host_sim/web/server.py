# SPDX-License-Identifier: MIT
"""Serves the page on this machine, with the headers that let a page use SharedArrayBuffer."""

import contextlib
import errno
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from host_sim.setup.shell import Failure

HOST = "127.0.0.1"
PORT = 8000
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder; no directory listings, no log."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".safetensors": "application/octet-stream",
    }
    isolated = True
    disable_nagle_algorithm = True

    def end_headers(self) -> None:
        """Add the headers of every answer."""
        if self.isolated:
            for name, value in ISOLATION.items():
                self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def list_directory(self, path: object) -> None:
        """Refuse to list a folder."""
        self.send_error(404)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def server(folder: Path, port: int = PORT, handler: type[Handler] = Handler) -> ThreadingHTTPServer:
    """A server of the folder; port 0 for any free one. A Failure if the port is taken."""
    try:
        return ThreadingHTTPServer((HOST, port), partial(handler, directory=str(folder)))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Failure(f"port {port} is in use by another program: give another one, --port {port + 1}") from None
        if error.errno == errno.EACCES:
            raise Failure(f"port {port} is not allowed without root: give one of 1024 to 65535") from None
        raise


@contextlib.contextmanager
def serving(folder: Path, handler: type[Handler] = Handler) -> Iterator[str]:
    """Serve a folder on a free port while the block runs; gives its address."""
    with server(folder, 0, handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        try:
            yield f"http://{HOST}:{running.server_address[1]}/"
        finally:
            running.shutdown()
