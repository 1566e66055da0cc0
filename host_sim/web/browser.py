# SPDX-License-Identifier: MIT
"""Headless Chromium, driven by playwright, with the page in it."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from host_sim.setup.apt import CHROMIUM
from host_sim.setup.shell import Failure

READY_MS = 120_000


def chromium() -> str:
    """Chromium's path; a Failure without one."""
    for name in CHROMIUM:
        if path := shutil.which(name):
            return path
    raise Failure("chromium is missing: install it (Debian: apt-get install chromium)")


@contextlib.contextmanager
def browser(options: Sequence[str] = ()) -> Iterator[Any]:
    """A headless Chromium: playwright's Browser."""
    from playwright.sync_api import sync_playwright

    arguments = [*options, "--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium does not start as root otherwise
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=arguments, headless=True)
        try:
            yield running
        finally:
            running.close()


def open_page(context: Any, address: str) -> Any:
    """The page, when its board is ready: playwright's Page. A Failure quotes what the page says otherwise."""
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-ready], #problem:not([hidden])", timeout=READY_MS)
    if not page.locator("body[data-ready]").count():
        raise Failure(f"the page does not start: {page.locator('#problem').text_content()}")
    return page
