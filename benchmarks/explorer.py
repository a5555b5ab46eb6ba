"""How fast the book's latent explorer is in a browser, and how large its page is.

``python benchmarks/explorer.py [page]`` opens the rendered page (``make book``) from disk in a
headless Chromium. A frame is all that follows a move of a slider: decoding, both images, the table.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from measure import heading, line
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
OWN = ("explorer.js", "explorer.css", "explorer_data.js")
LIMIT_MS, LIMIT_MB = 100, 6

FRAMES = """async ([n, random]) => {
  const root = document.getElementById("lx-root"), sliders = [...root.querySelectorAll(".lx-row input")];
  const drawn = () => new Promise(done => root.addEventListener("drawn", done, { once: true }));
  const times = [];
  for (let i = 0; i < n; i++) {
    const slider = sliders[i % sliders.length], begun = performance.now(), wait = drawn();
    slider.value = random[i];
    slider.dispatchEvent(new Event("input"));
    await wait;
    times.push([performance.now() - begun, brainvaeExplorer.state.shown.ms]);
  }
  return times;
}"""  # noqa: E501


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT / "_build/html/book/explorer.html"
    parser.add_argument("page", nargs="?", type=Path, default=default)
    parser.add_argument("--frames", type=int, default=300)
    given = parser.parse_args()
    static = given.page.resolve().parent.parent / "_static"
    files = [given.page, *(static / name for name in OWN)]
    if missing := [str(f) for f in files if not f.is_file()]:
        sys.exit(f"error: no {', '.join(missing)}; make book renders the page")
    programs = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    program = next(filter(None, programs), None)
    if program is None:
        sys.exit("error: no Chromium or Chrome is installed")
    random = np.random.default_rng(0).uniform(-7, 7, given.frames + 20).round(1).tolist()
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(given.page.resolve().as_uri())
        page.wait_for_function("window.brainvaeExplorer?.state.shown.image")
        height, width = page.evaluate("brainvaeExplorerData.shape")
        times = np.array(page.evaluate(FRAMES, [len(random), random]))[20:]
        version = browser.version
        browser.close()
    heading("The latent explorer", torch.device("cpu"), f"Chromium {version}, from disk.")
    n = f"{len(times)} frames"
    for what, ms in zip((f"frame at {height} × {width}", "of it, decoding"), times.T, strict=True):
        figure = f"median {np.median(ms):.3g} ms, 95 % below {np.quantile(ms, 0.95):.3g} ms"
        line(what, figure, n, f"{LIMIT_MS} ms" if what.startswith("frame") else "")
    size = sum(f.stat().st_size for f in files) / 1e6
    line("page with its data, scripts and style", f"{size:.2f} MB", "1", f"{LIMIT_MB} MB")


if __name__ == "__main__":
    main()
