"""Debian's Chromium without a window, driven by Playwright."""

import os
import shutil
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 900}},
    "small": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
    "small-dark": {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}

PROGRAMS = ["chromium-headless-shell", "chromium"]

SECONDS = 20


def program():
    """Where the browser is, or an assertion that it was not installed."""
    found = [path for path in map(shutil.which, PROGRAMS) if path]
    assert found, "there is no chromium-headless-shell: scripts/setup test installs it"
    return found[0]


@contextmanager
def browser():
    """A function that opens an address in one of the LOOKS. The page has `told`: what the console said."""
    # Chromium's sandbox needs namespaces that containers and root do not have; the pages are our own.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program(), args=arguments, timeout=SECONDS * 1000)

        @contextmanager
        def look(address, variant="light"):
            context = chromium.new_context(**LOOKS[variant])
            context.set_default_timeout(SECONDS * 1000)
            page = context.new_page()
            page.told = []
            page.on("console", lambda message: page.told.append(message.text))
            page.on("pageerror", lambda error: page.told.append(str(error)))
            page.on("dialog", lambda dialog: (page.told.append(dialog.message), dialog.dismiss()))
            page.on("requestfailed", lambda request: page.told.append(f"failed: {request.url}"))
            try:
                page.goto(address)
                yield page
            finally:
                context.close()

        try:
            yield look
        finally:
            chromium.close()
