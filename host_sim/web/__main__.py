# SPDX-License-Identifier: MIT
"""Command line of the browser as a board.

python -m host_sim.web [--port PORT]      build the page and serve it until Ctrl-C
python -m host_sim.web --out DIR          build the page and write it as a static site
python -m host_sim.web demo browser       run firmware/classify.py in the page, in a headless Chromium
"""

import argparse
import json
import re
import sys
from pathlib import Path

from host_sim.setup.artefact import write_whole
from host_sim.setup.shell import BUILD, Failure, one_line_errors
from host_sim.web.browser import browser, open_page
from host_sim.web.server import HOST, PORT, server, serving
from host_sim.web.site import copy_to, site, size

SCRIPT_MS = 120_000


def serve(arguments: argparse.Namespace) -> None:
    """Build, then serve or write to a folder."""
    if arguments.out:
        folder = copy_to(arguments.out, arguments.firmware)
        print(f"{folder}: {size(folder):,} bytes, a static site for any folder of a server with https")
        return
    if arguments.firmware:
        raise Failure("--firmware: only with --out")
    if not 0 <= arguments.port <= 65535:
        raise Failure(f"--port {arguments.port}: must be 0 to 65535")
    with server(site(), arguments.port) as running:
        print(f"http://{HOST}:{running.server_address[1]}/", flush=True)
        if sys.stderr.isatty():
            print("open this address in a browser; Ctrl-C ends", file=sys.stderr)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            return


def demo(arguments: argparse.Namespace) -> None:
    """Run classify.py as the editor of the page has it, and write build/demo.json."""
    with serving(site()) as address, browser() as running:
        page = open_page(running.new_context(), address)
        page.click("#tab-script")
        page.click("#run")
        page.wait_for_selector("#output[data-state=ended], #output[data-state=failed]", timeout=SCRIPT_MS)
        output = page.locator("#output").text_content()
    print(output, end="")
    counts = re.findall(r"(\d+) of (\d+) right", output)
    if not counts:
        raise Failure("firmware/classify.py did not end with a line like '9 of 10 right'")
    right, of = map(int, counts[-1])
    write_whole(BUILD / "demo.json", json.dumps({"right": right, "of": of, "board": "browser"}) + "\n")


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="host_sim.web", description="MicroPython with the ternary module in a page.")
    parser.set_defaults(run=serve)
    parser.add_argument("--port", type=int, default=PORT, help=f"port to serve at (default {PORT}; 0: any free one)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the static site to DIR instead of serving it")
    parser.add_argument("--firmware", type=Path, metavar="DIR", help="with --out: offer the flash images DIR/NAME.bin")
    commands = parser.add_subparsers(metavar="COMMAND")
    command = commands.add_parser("demo", help="run firmware/classify.py in the page, in a headless Chromium")
    command.add_argument("kind", nargs="?", choices=["browser"], default="browser", help="browser")
    command.set_defaults(run=demo)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
