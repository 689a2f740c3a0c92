"""Chromium for the tests that look at pages, driven by Selenium."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
in_a_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed; .ci/run installs them"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    "--disable-dev-shm-usage",
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,1000"),
)


PATIENCE = 600
"""Seconds that a command may take: a page of a large grid opens slowly while other tests run."""


@contextlib.contextmanager
def chromium(page: Path, profile: Path) -> Iterator[object]:
    """A browser with the page open; its log keeps what the console says.

    Args:
        profile: an empty folder.
    """
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.command_executor.client_config.timeout = PATIENCE
    try:
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()


def texts(browser: object, selector: str) -> list[str]:
    """What the elements show, in the order of the page."""
    return [e.text for e in browser.find_elements("css selector", selector)]
