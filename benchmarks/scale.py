"""Cost against number of brains, resolution and number of models.

    python benchmarks/scale.py [--times 1 5 20] [--device auto] [--folder DIR] [--small]

Cohorts of 1, 5 and 20 times the paper's 1,723 brains are simulated and written block by block, then
trained on from memory and from disk, each in a process of its own, whose peak memory is measured:
its own, without the pages of mapped files, which all processes share and any may lose. The cohorts
stay in ``--folder`` for another time (0.57 MB a brain at 320 × 448); without it they lie in a
temporary folder and are removed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from measure import heading, interleaved, line, part, seconds_a_step, spread

from brainvae_core.cohorts import Cohort, drawn_atlas, open_cohort, save_blocks, simulate
from brainvae_core.cohorts import cohort as cohorts_cohort
from brainvae_core.models import images as models_images
from brainvae_core.models.config import BetaVAEConfig
from brainvae_core.models.devices import pick_device

PAPER = 1_723  # brains
BLOCK = 256  # brains simulated at once
SHAPES = ((40, 56), (80, 112), (160, 224), (320, 448))
AGAINST = ("brains", "resolution", "models")
HELD_OUT = 64  # validation brains that a timed fit looks at


def simulated_blocks(n_brains: int, shape: tuple[int, int]):
    """A large simulated cohort in blocks, each from a seed of its own."""
    atlas = drawn_atlas()
    for start in range(0, n_brains, BLOCK):
        n = min(BLOCK, n_brains - start)
        made = simulate(max(n, 2), atlas, shape, seed=start).select(np.arange(n))
        brains = pd.Index([f"sim-{start + i:06d}" for i in range(n)], name="brain")
        yield Cohort(
            made.images,
            made.metadata.set_axis(brains),
            made.atlas,
            factors=made.factors.set_axis(brains),
            name=made.name,
        )


def make(path: Path, n_brains: int, shape) -> float:
    """Seconds it takes to simulate and write a cohort."""
    start = time.perf_counter()
    save_blocks(path, simulated_blocks(n_brains, shape), split_seed=0)
    return time.perf_counter() - start


def read(path: Path, rounds: int) -> tuple[list[float], float]:
    """Milliseconds a brain of 64 brains anywhere in the cohort, and seconds of reading them all."""
    images = open_cohort(path).images
    rng = np.random.default_rng(0)
    found = []
    for _ in range(rounds):
        rows = rng.permutation(len(images))[:64]
        start = time.perf_counter()
        np.array(images[rows])
        found.append(1000 * (time.perf_counter() - start) / len(rows))
    start = time.perf_counter()
    for first in range(0, len(images), 64):
        np.array(images[first : first + 64])
    return found, time.perf_counter() - start


def train_from(path: Path, streamed: bool, config, device, steps, rounds) -> dict:
    """Seconds a step, seconds from the folder to the first fit's end, and peak memory in GB."""
    peak, done = [0], threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(peak, done), daemon=True)
    watcher.start()
    if streamed:
        models_images.SHARE = 0  # a GPU with room would otherwise take all images in
    cohorts_cohort.IN_MEMORY = 0 if streamed else np.inf
    start = time.perf_counter()
    cohort = open_cohort(path)
    train, validation = cohort.split("train").images, cohort.split("validation").images[:HELD_OUT]
    del cohort
    seconds = [seconds_a_step([config], train, validation, device, steps)]
    ready = time.perf_counter() - start
    seconds += [
        seconds_a_step([config], train, validation, device, steps) for _ in range(rounds - 1)
    ]
    done.set()
    watcher.join()
    return {"seconds": seconds, "ready": ready, "peak": peak[0] / 1e9}


def _watch_memory(peak: list[int], done: threading.Event):
    """The most bytes this process had for itself, twenty looks a second."""
    process = psutil.Process()
    while not done.wait(0.05):
        memory = process.memory_info()
        peak[0] = max(peak[0], memory.rss - getattr(memory, "shared", 0))


def in_own_process(function, *arguments):
    """What a function gives in a fresh process: peak memory is a process's."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as pool:
        return pool.submit(function, *arguments).result()


def against_brains(times, shape, config, device, steps, rounds, folder: Path):
    """Making, keeping, reading and training on ever more brains."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    for n_times, n_brains in times:
        size = f"{n_brains:,} brains ({n_times} × the paper's) at {shape[0]} × {shape[1]}"
        with part(size):
            path = folder / f"simulated-{n_brains}-{shape[0]}x{shape[1]}"
            if not path.exists():
                seconds = in_own_process(make, path, n_brains, shape)
                line(f"{size}: simulated and written", f"{seconds:.3g} s", "1")
            on_disk = sum(p.stat().st_size for p in path.iterdir()) / 1e9
            in_memory = n_brains * shape[0] * shape[1] * 4 / 1e9
            line(f"{size}: on disk, as float32", f"{on_disk:.3g} GB, {in_memory:.3g} GB", "1")
            found, whole = in_own_process(read, path, 5)
            line(f"{size}: reading a brain at random", spread(found, "ms"), "5 × 64 brains")
            line(f"{size}: reading all, as initialisation does twice", f"{whole:.3g} s", "1")
            batch = f"a step of {config.batch_size}"
            for streamed in (False, True):
                how = "from disk" if streamed else "in memory"
                if not streamed and 2 * in_memory > 0.6 * memory:  # brains, and the training part
                    needed = f"needs about {1.7 * in_memory:.0f} GB of {memory:.0f} GB"
                    line(f"{size}: {batch}, {how}", f"not measured: {needed}")
                    continue
                found = in_own_process(train_from, path, streamed, config, device, steps, rounds)
                n = f"{rounds} slopes over {steps[0]} to {steps[1]} steps"
                figure = f"{spread(found['seconds'])}; peak memory {found['peak']:.3g} GB; first "
                line(f"{size}: {batch}, {how}", f"{figure}fit after {found['ready']:.3g} s", n)


def against_resolution(shapes, config, device, steps, rounds):
    """A step forward and backward at ever more pixels."""
    contenders = {}
    for shape in shapes:
        images = np.random.default_rng(0).random((HELD_OUT, *shape), dtype=np.float32)
        contenders[shape] = lambda images=images: seconds_a_step(
            [config], images, images, device, steps
        )
    for shape, seconds in interleaved(contenders, rounds).items():
        per = (
            f"{1e9 * np.median(seconds) / (config.batch_size * shape[0] * shape[1]):.3g} ns a pixel"
        )
        what = f"a step of {config.batch_size} at {shape[0]} × {shape[1]}"
        line(what, f"{spread(seconds)}; {per}", f"{rounds} slopes, interleaved")


def against_models(counts, shape, config, device, steps, rounds):
    """Models one after another and together: seconds of a step of one of them."""
    images = np.random.default_rng(0).random((HELD_OUT, *shape), dtype=np.float32)

    def after_another(n):
        configs = [replace(config, seed=i) for i in range(n)]
        return np.mean([seconds_a_step([c], images, images, device, steps) for c in configs])

    def together(n):
        configs = [replace(config, seed=i) for i in range(n)]
        return seconds_a_step(configs, images, images, device, steps) / n

    contenders = {}
    for n in counts:
        contenders[f"{n} models one after another"] = lambda n=n: after_another(n)
        contenders[f"{n} models together"] = lambda n=n: together(n)
    for name, seconds in interleaved(contenders, rounds).items():
        what = f"{name}: a model's step of {config.batch_size} at {shape[0]} × {shape[1]}"
        line(what, spread(seconds), f"{rounds} slopes, interleaved")


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--times", type=int, nargs="+", default=[1, 5, 20])
    options.add_argument("--device", default="auto")
    options.add_argument("--folder", type=Path, help="cohorts are made here and stay")
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", nargs="+", choices=AGAINST, default=AGAINST)
    options.add_argument("--small", action="store_true", help="the same in a minute, on two cores")
    given = options.parse_args()
    device = pick_device(given.device)
    # Reading all brains for an initialisation is told by itself.
    config = BetaVAEConfig(batch_size=given.batch, initialisation="authors")
    steps = (50, 550) if device.type == "cuda" else (2, 12)
    shape, shapes, counts, paper = SHAPES[-1], SHAPES, (1, 2, 4, 8), PAPER
    if given.small:
        shape, shapes, counts, paper = SHAPES[0], SHAPES[:2], (1, 2), 80
        given.times, given.rounds = given.times[:2], 1
        config, steps = replace(config, batch_size=8), (2, 12)

    heading("Scale", device)
    timing = (config, given.device, steps, given.rounds)
    if "brains" in given.only:
        with tempfile.TemporaryDirectory(prefix="brainvae-scale-") as temporary:
            times = [(n, n * paper) for n in given.times]
            against_brains(times, shape, *timing, given.folder or Path(temporary))
    if "resolution" in given.only:
        with part("resolution"):
            against_resolution(shapes, *timing)
    if "models" in given.only:
        with part("number of models"):
            against_models(counts, shapes[-2], *timing)


if __name__ == "__main__":
    main()
