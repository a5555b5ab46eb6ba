"""Everything that is claimed of a GPU, in one command; the same on a CPU.

    python benchmarks/gpu.py [--device auto] [--small] [--only race …] > results.md

Each part is a process of its own, so that none is lost with another, and writes each line when it
has it: a step over the time that moving its activations takes; the race to the paper recipe's ELBO;
models an hour, several together; a peer on the same network.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measure import heading, in_own_process, interleaved, line, options, part, spread
from peer import seconds_a_plain_step
from reach import Setting, race, slope
from torch import nn
from torch.utils.benchmark import Timer

from brainvae_core.models.config import format_steps
from brainvae_core.models.devices import pick_device
from brainvae_core.models.training import train_together
from brainvae_core.models.vae import BetaVAE

GRID = 20 * 17  # values of β by values of L
TOUCHED = 5  # times a step reads or writes each activation: forward 2, backward 3
BYTES = {"float32": 4, "bfloat16": 2}


def copy_rates(device: torch.device) -> list[float]:
    """Bytes a second of a large copy on the device, read and written bytes both counted."""
    n_bytes = 2**30 if device.type == "cuda" else 2**27
    source = torch.ones(n_bytes, dtype=torch.uint8, device=device)
    found = {"target": torch.empty_like(source), "source": source}
    timer = Timer("target.copy_(source)", globals=found)  # which waits for a GPU
    return [2 * n_bytes / s for s in timer.blocked_autorange(min_run_time=1).times]


@torch.no_grad()
def activations(image_shape: tuple[int, int]) -> int:
    """Numbers that the network's ReLUs give for one image."""
    model, counted = BetaVAE(8, image_shape), []
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda layer, given, found: counted.append(found.numel()))
    mean, _ = model.posterior_parameters(torch.zeros((1, *image_shape)))
    model.logits(mean)
    return sum(counted)


def memory_floor(image_shape, batch_size: int, precision: str, copy_rate: float) -> float:
    """Seconds of a step that only moved its activations, each touched five times."""
    return TOUCHED * activations(image_shape) * batch_size * BYTES[precision] / copy_rate


def step(setting: Setting):
    """What the machine does at best, and a step over the time that moving its activations takes."""
    rates = copy_rates(pick_device(setting.device))
    line("copy on the device", spread([r / 1e9 for r in rates], "GB/s"), f"{len(rates)} rounds")
    configs = {"recipe paper": setting.paper()}
    for precision in BYTES:
        configs[f"recipe fast in {precision}"] = setting.fast(steps=1, precision=precision)
    for name, config in configs.items():
        what = f"step of {config.batch_size} at {setting.size}, {name}"
        with part(what):
            timed = [slope(setting, config) for _ in range(setting.rounds)]
            middle, n = statistics.median(timed), f"{setting.rounds} slopes"
            line(what, f"{spread([1000 * s for s in timed], 'ms')}, {1 / middle:.4g} steps/s", n)
            precision, rate = config.precision, statistics.median(rates)
            floor = memory_floor(setting.shape, config.batch_size, precision, rate)
            figure = f"{middle / floor:.3g} × the floor of {1000 * floor:.3g} ms ({precision})"
            line(f"{what}, over the memory floor", figure, n, "2.5 × (near 1.3 ×)")


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


PARTS = {"step": step, "race": race, "models": models_per_hour, "peer": peer}
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
