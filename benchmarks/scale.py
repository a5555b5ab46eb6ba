"""Cost against number of brains: keeping and training on ever more of them.

    python benchmarks/scale.py [--times 1 5 20] [--device auto] [--folder DIR] [--small]

Cohorts of 1, 5 and 20 times the paper's 1,723 brains are simulated and written block by block, then
trained on from memory and from disk, each in a process of its own, whose peak memory is measured
without the pages of mapped files, which all processes share. The cohorts stay in ``--folder`` for
another time (0.57 MB a brain at 320 × 448); without it they are removed.
"""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from measure import heading, in_own_process, line, options, part, seconds_a_step, spread

from brainvae_core.cohorts import Cohort, drawn_atlas, open_cohort, save_blocks, simulate
from brainvae_core.cohorts import cohort as cohorts_cohort
from brainvae_core.models import devices as models_devices
from brainvae_core.models.config import BetaVAEConfig
from brainvae_core.models.devices import pick_device
from brainvae_core.models.vae import PAPER_SHAPE

PAPER = 1_723  # brains
BLOCK = 256  # brains simulated at once
HELD_OUT = 64  # validation brains that a timed fit looks at


def make(path: Path, n_brains: int, shape) -> None:
    """Simulate a large cohort and write it, each block from its own seed."""

    def blocks():
        atlas = drawn_atlas()
        for start in range(0, n_brains, BLOCK):
            n = min(BLOCK, n_brains - start)
            made = simulate(max(n, 2), atlas, shape, seed=start).select(np.arange(n))
            brains = pd.Index([f"sim-{start + i:06d}" for i in range(n)], name="brain")
            metadata, factors = made.metadata.set_axis(brains), made.factors.set_axis(brains)
            yield Cohort(made.images, metadata, made.atlas, factors=factors, name=made.name)

    save_blocks(path, blocks(), split_seed=0)


def train_from(path: Path, streamed: bool, config, device, steps, rounds) -> tuple:
    """Seconds a step, each round's, and peak memory in GB."""
    peak, done, process = [0], threading.Event(), psutil.Process()

    def watch():  # the most bytes this process had for itself, twenty looks a second
        while not done.wait(0.05):
            memory = process.memory_info()
            peak[0] = max(peak[0], memory.rss - getattr(memory, "shared", 0))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    if streamed:
        models_devices.SHARE = 0  # a GPU with room would otherwise take all images in
    cohorts_cohort.IN_MEMORY = 0 if streamed else np.inf
    cohort = open_cohort(path)
    images = cohort.split("train").images, cohort.split("validation").images[:HELD_OUT]
    seconds = [seconds_a_step([config], *images, device, steps) for _ in range(rounds)]
    done.set()
    watcher.join()
    return seconds, peak[0] / 1e9


def against_brains(times, paper: int, shape, timing, folder: Path):
    """Lines of each cohort."""
    memory, (config, _, steps, rounds) = psutil.virtual_memory().total / 1e9, timing
    for n_times in times:
        n_brains = n_times * paper
        size = f"{n_brains:,} brains ({n_times} × the paper's) at {shape[0]} × {shape[1]}"
        with part(size):
            path = folder / f"simulated-{n_brains}-{shape[0]}x{shape[1]}"
            if not path.exists():
                in_own_process(make, path, n_brains, shape)
            on_disk = sum(p.stat().st_size for p in path.iterdir()) / 1e9
            in_memory = n_brains * shape[0] * shape[1] * 4 / 1e9
            line(f"{size}: on disk, as float32", f"{on_disk:.3g} GB, {in_memory:.3g} GB", "1")
            for streamed in (False, True):
                what = f"{size}: a step of {config.batch_size}, "
                what += "from disk" if streamed else "in memory"
                needed = 1.7 * in_memory  # brains, and the training part
                if not streamed and needed > 0.5 * memory:
                    needed = f"needs about {needed:.0f} GB of {memory:.0f} GB"
                    line(what, f"not measured: {needed}")
                    continue
                seconds, peak = in_own_process(train_from, path, streamed, *timing)
                n = f"{rounds} slopes over {steps[0]} to {steps[1]} steps"
                line(what, f"{spread(seconds)}; peak memory {peak:.3g} GB", n)


def main():
    parser = options(__doc__, "the same in a minute, on two cores")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--folder", type=Path, help="cohorts are made here and stay")
    given = parser.parse_args()
    device = pick_device(given.device)
    # Reading all brains for an initialisation is told by itself.
    config = BetaVAEConfig(batch_size=64, initialisation="authors")
    timing = config, given.device, (50, 550) if device.type == "cuda" else (2, 12), 3
    shape, paper, times = PAPER_SHAPE, PAPER, given.times
    if given.small:
        shape, paper, times = (40, 56), 80, times[:2]
        timing = replace(config, batch_size=8), given.device, (2, 12), 1
    heading("Scale", device)
    with tempfile.TemporaryDirectory(prefix="brainvae-scale-") as temporary:
        against_brains(times, paper, shape, timing, given.folder or Path(temporary))


if __name__ == "__main__":
    main()
