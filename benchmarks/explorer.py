"""How fast the book's latent explorer is in a browser, and how large its page is.

``python benchmarks/explorer.py [page]`` opens the rendered page (``make html``) from disk in a
headless Chromium. A frame is all that follows a move of a slider: decoding, both images, the table;
a reading is all that follows a move of the region's slider: the picture, its codes, their bars.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from measure import heading, line
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
OWN = ("explorer.js", "explorer.css", "explorer_data.js")
MEDIAN_MS, LIMIT_MS, LIMIT_MB, WARM, FRAMES_TIMED = 50, 100, 8, 20, 300

FRAMES = """async ([what, values]) => {
  const root = document.getElementById("lx-root"), event = what === "frames" ? "drawn" : "read";
  const sliders = [...root.querySelectorAll(what === "frames" ? ".lx-row input" : "#lx-by")];
  const happened = () => new Promise(done => root.addEventListener(event, done, { once: true }));
  const times = [];
  for (const [i, value] of values.entries()) {
    const slider = sliders[i % sliders.length], begun = performance.now(), wait = happened();
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
    await wait;
    times.push([performance.now() - begun, brainvaeExplorer.state.shown.ms]);
  }
  return times;
}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT / "_build/html/book/explorer.html"
    parser.add_argument("page", nargs="?", type=Path, default=default)
    given = parser.parse_args()
    static = given.page.resolve().parent.parent / "_static"
    files = [given.page, *(static / name for name in OWN)]
    if missing := [str(f) for f in files if not f.is_file()]:
        sys.exit(f"error: no {', '.join(missing)}; make html renders the page")
    programs = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    program = next(filter(None, programs), None)
    if program is None:
        sys.exit("error: no Chromium or Chrome is installed")
    rng, n = np.random.default_rng(0), FRAMES_TIMED + WARM
    moves = {"frames": rng.uniform(-7, 7, n).round(1), "readings": rng.choice([-30, 5, 40], n)}
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(given.page.resolve().as_uri())
        page.wait_for_function("window.brainvaeExplorer?.state.codes.after")
        height, width = page.evaluate("brainvaeExplorerData.shape")
        # Readings first: frames leave one to be made.
        times = {k: page.evaluate(FRAMES, [k, moves[k].tolist()]) for k in ("readings", "frames")}
        version = browser.version
        browser.close()
    heading("The latent explorer", torch.device("cpu"), f"Chromium {version}, from disk.")
    frames, readings = (np.array(times[k])[WARM:] for k in ("frames", "readings"))
    parts = {"frame": frames[:, 0], "of it, decoding": frames[:, 1], "reading": readings[:, 0]}
    limit = f"median {MEDIAN_MS} ms, 95 % below {LIMIT_MS} ms"
    for what, ms in parts.items():
        figure = f"median {np.median(ms):.3g} ms, 95 % below {np.quantile(ms, 0.95):.3g} ms"
        told = f"{what} at {height} × {width}" if what != "of it, decoding" else what
        line(told, figure, f"{len(ms)}", limit if what == "frame" else "")
    size = sum(f.stat().st_size for f in files) / 1e6
    line("page with its data, scripts and style", f"{size:.2f} MB", "1", f"{LIMIT_MB} MB")
    print(f"\nLoad of the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")


if __name__ == "__main__":
    main()
