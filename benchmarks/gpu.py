"""Everything that is claimed of a GPU, in one command; the same on a CPU.

    python benchmarks/gpu.py [--device auto] [--small] [--only race …] > results.md

Each part is a process of its own, so that none is lost with another, and writes each line when it
has it: the race to the paper recipe's ELBO; models an hour, several together; a peer on the same
network.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from measure import heading, in_own_process, interleaved, line, options, part, spread
from peer import seconds_a_plain_step
from reach import Setting, race, slope

from brainvae_core.models.config import format_steps
from brainvae_core.models.devices import pick_device
from brainvae_core.models.training import train_together

GRID = 20 * 17  # values of β by values of L


def whole_fits(setting: Setting, configs) -> tuple[float, str]:
    """Seconds of fits together, and these told with what failed."""
    images, start = setting.noise(), time.perf_counter()
    fitted = train_together(configs, *images, device=setting.device)
    taken = time.perf_counter() - start
    failed = [one.failure for one in fitted if one.failure]
    return taken, f"{taken:.4g} s" + (f"; {len(failed)} failed: {failed[0]}" if failed else "")


def models_per_hour(setting: Setting):
    """Whole fits of the fast recipe, more and more of them at once."""
    base, best = setting.fast(), 0.0
    whole_fits(setting, [replace(base, steps=2, validate_every=2)])  # warms up
    for n in setting.together:
        what = f"{n} models of {format_steps(base.steps)} steps of {base.batch_size} together"
        with part(what):
            taken, told = whole_fits(setting, [replace(base, seed=seed) for seed in range(n)])
            rate = 3600 * n / taken
            line(what, f"{told}, {rate:.4g} models an hour", "1")
            if rate > best and "failed" not in told:
                best, projected = rate, f"{60 * GRID / rate:.3g} min (projection)"
                line(f"grid of {GRID} points at that rate", projected, "1", "60 min (near 10 min)")


def peer(setting: Setting):
    """Steps a second of plain PyTorch with a DataLoader on the same network, images and machine."""
    saved, batch = setting.folder / "images.npy", setting.paper().batch_size
    np.save(saved, setting.noise()[0])
    asked = saved, batch, pick_device(setting.device), max(setting.timed[1] // 4, 10)
    contenders = {
        "ours": partial(slope, setting, setting.fast(steps=1, batch_size=batch)),
        "eager PyTorch + DataLoader": partial(in_own_process, seconds_a_plain_step, *asked),
    }
    interleaved(contenders, 1)  # warms up
    found, n = interleaved(contenders, setting.rounds), f"{setting.rounds} rounds, interleaved"
    for name, timed in found.items():
        rate = spread([1 / s for s in timed], "steps/s")
        line(f"{name}, batch {batch} at {setting.size}", rate, n)
    own, other = found.values()
    line("ours against eager PyTorch", spread(np.divide(other, own), "×"), n, "5 × (near 10 ×)")


PARTS = {"race": race, "models": models_per_hour, "peer": peer}
SMALL = {"shape": (40, 56), "brains": 100, "seeds": 1, "reference_steps": 20, "lengths": (20,)}
SMALL |= {"timed": (2, 12), "rounds": 1, "together": (1, 2)}


def main():
    parser = options(__doc__, "the same in a minute, on two cores")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    device = pick_device(given.device)
    heading("Training", device)
    with tempfile.TemporaryDirectory(prefix="brainvae-gpu-") as folder:
        setting = Setting(given.device, Path(folder), seeds=3)
        if device.type != "cuda":
            setting = replace(setting, timed=(2, 12), rounds=3)
        setting = replace(setting, **SMALL) if given.small else setting
        for name in given.only:
            with part(name):
                in_own_process(PARTS[name], setting)


if __name__ == "__main__":
    main()
