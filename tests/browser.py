"""The system's Chromium, headless, for tests of pages.

A folder's ``conftest.py`` takes the fixture over (``from tests.browser import browser``, named in ``__all__``)::

    def test_page(browser, tmp_path):
        with opened(browser, (tmp_path / "report.html").as_uri(), dark=True) as seen:
            seen.page.get_by_role("button", name="Label").press("Enter")
        assert seen.faults == []
        assert seen.foreign_requests() == []

Where Chromium is missing these tests are skipped, unless ``MGC_BROWSER_TESTS=1`` says that it must be there.
``MGC_CHROMIUM`` names another one than that on the path.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

__all__ = ["Seen", "browser", "opened"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# --disable-background-networking: its own look-ups for updates are no part of what is tested.
ARGUMENTS = (
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
)


@dataclass
class Seen:
    """An open page, and what it did.

    Attributes:
        page: of Playwright's synchronous API.
        faults: errors and warnings of the console, exceptions, and requests that failed.
        requests: addresses that were asked for.
    """

    page: Any
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def foreign_requests(self) -> list[str]:
        """Those to another host than the page's own, or to a file; ``data:`` and ``blob:`` stay within the page."""
        own = urlsplit(self.requests[0])
        outside = []
        for url in self.requests[1:]:
            parts = urlsplit(url)
            same_host = own.scheme != "file" and parts[:2] == own[:2]
            if parts.scheme not in ("data", "blob") and not same_host:
                outside.append(url)
        return outside


def _chromium() -> str:
    named = os.environ.get("MGC_CHROMIUM")
    found = named if named else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None or shutil.which(found) is None:
        why = f"no Chromium ({named or ', '.join(NAMES)}): install it (Debian: apt-get install chromium)"
        if os.environ.get("MGC_BROWSER_TESTS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for the tests of one file; it keeps an event loop running, so it does not outlive them."""
    path = _chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield started
        started.close()


@contextmanager
def opened(browser: Any, url: str, *, dark: bool = False, width: int = 1200, height: int = 900) -> Iterator[Seen]:
    """Open an address in a fresh profile.

    Args:
        browser: the fixture.
        url: ``file:`` or ``http:``.
        dark: ask for the dark colour scheme.
        width: of the window, in CSS pixels.
        height: of the window, in CSS pixels.
    """
    context = browser.new_context(
        color_scheme="dark" if dark else "light", viewport={"width": width, "height": height}, accept_downloads=True
    )
    try:
        seen = Seen(context.new_page())
        page = seen.page
        page.set_default_timeout(15_000)
        page.on(
            "console",
            lambda message: seen.faults.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: seen.faults.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("requestfailed", lambda request: seen.faults.append(f"{request.url}: {request.failure}"))
        page.goto(url)
        yield seen
    finally:
        context.close()
