"""What every test file shares."""

import os
import re
import shutil
from pathlib import Path

import pytest

os.environ["BRAINVAE_TRUSTED_HOSTS"] = "127.0.0.1"  # where the local servers are

CHROMIUM = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)


def pytest_collection_modifyitems(config, items):
    """What is marked `nightly` is run by make nightly alone."""
    if os.environ.get("HYPOTHESIS_PROFILE") != "nightly":
        of_a_night = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=of_a_night)
        items[:] = [item for item in items if item not in of_a_night]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """How many examples a property was tried with, for the table of promises."""
    statistics = getattr(item, "hypothesis_statistics", "") if call.when == "call" else ""
    if counted := re.findall(r"(\d+) passing", statistics):
        item.user_properties.append(("cases", sum(map(int, counted))))
    return (yield)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real atlas and brains, named by BRAINVAE_DATA; skips where there is none."""
    folder = os.environ.get("BRAINVAE_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"BRAINVAE_DATA={folder!r} names no folder with the real atlas and brains")
    return Path(folder)


@pytest.fixture(scope="session")
def html() -> Path:
    """Folder of the rendered book; skips where there is none, but never in CI."""
    folder = Path(__file__).parent.parent / "_build/html"
    if not (folder / "index.html").is_file():
        assert os.environ.get("CI") != "true", "make html first"
        pytest.skip("there is no rendered book here: make html")
    return folder


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium driven by Playwright; skips where none is installed, but never in CI."""
    from playwright.sync_api import sync_playwright

    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    program = next(found, None)
    if program is None and os.environ.get("CI") == "true":
        pytest.fail("no Chromium here: apt-get install chromium")
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    with sync_playwright() as playwright:
        options = {"executable_path": program, "args": CHROMIUM.split()}
        started = playwright.chromium.launch(**options)
        yield started
        started.close()
