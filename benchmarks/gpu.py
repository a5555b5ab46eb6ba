"""Everything that is claimed of a GPU, in one command of at most 8 minutes; the same on a CPU.

    python benchmarks/gpu.py [--device auto] [--small] > results.md

Each part is a process of its own, so that none is lost with another, and writes each line when it
has it: a step over the time that moving its activations takes; one model by each recipe; the race
to the paper recipe's held-out ELBO; models an hour, several together; a peer on the same network.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measure import heading, interleaved, line, options, part, seconds_a_step, spread
from reach import ROOT, Setting, race
from torch import nn
from torch.utils.benchmark import Timer

from brainvae_core.models.config import format_steps
from brainvae_core.models.devices import pick_device
from brainvae_core.models.training import train_together
from brainvae_core.models.vae import BetaVAE

LIMIT = 8 * 60  # seconds for all parts; what runs then is ended
GRID = 20 * 17  # values of β by values of L
TOUCHED = 5  # times a step reads or writes each activation: forward 2, backward 3
BYTES = {"float32": 4, "bfloat16": 2}


def seconds(function) -> list[float]:
    """Seconds of one call, of rounds that last long enough for the clock; a GPU is waited for."""
    timer = Timer("f()", globals={"f": function}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=1).times


def copy_rates(device: torch.device) -> list[float]:
    """Bytes a second of a large copy on the device, read and written bytes both counted."""
    n_bytes = 2**30 if device.type == "cuda" else 2**27
    source = torch.ones(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return [2 * n_bytes / s for s in seconds(lambda: target.copy_(source))]


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
    moved = TOUCHED * activations(image_shape) * batch_size * BYTES[precision]
    return moved / copy_rate


def step(setting: Setting):
    """What the machine does at best, and a step over the time that moving its activations takes."""
    device, images = pick_device(setting.device), setting.noise_images()
    rates = copy_rates(device)
    line("copy on the device", spread([r / 1e9 for r in rates], "GB/s"), f"{len(rates)} rounds")
    configs = {"recipe paper": setting.paper()}
    for precision in ("float32", "bfloat16"):
        configs[f"recipe fast in {precision}"] = setting.fast(steps=1, precision=precision)
    n = f"{setting.rounds} slopes over {setting.timed[0]} to {setting.timed[1]} steps"
    for name, config in configs.items():
        what = f"step of {config.batch_size} at {setting.size}, {name}"
        with part(what):
            one = partial(_step, setting, images, config)
            timed = [one() for _ in range(setting.rounds)]
            middle, ms = statistics.median(timed), spread([1000 * s for s in timed], "ms")
            line(what, f"{ms}, {1 / middle:.4g} steps/s", n)
            precision, rate = config.precision, statistics.median(rates)
            floor = memory_floor(setting.shape, config.batch_size, precision, rate)
            figure = f"{middle / floor:.3g} × the floor of {1000 * floor:.3g} ms ({precision})"
            line(f"{what}, over the memory floor", figure, n, "2.5 × (near 1.3 ×)")


def one_model(setting: Setting):
    """One model by each recipe, from its start to its end."""
    images = setting.noise_images()
    for name, config in {"paper": setting.paper(), "fast": setting.fast()}.items():
        steps = format_steps(config.steps)
        what = f"one model by the {name} recipe at {setting.size}, {steps} steps"
        with part(what):
            line(what, _whole_fits([config], images, images[:64], setting.device)[1], "1")


def models_per_hour(setting: Setting):
    """Whole fits of the fast recipe, more and more of them at once."""
    images, base, best = setting.noise_images(), setting.fast(), 0.0
    warm_up = replace(base, steps=2, validate_every=2)
    train_together([warm_up], images, images[:8], device=setting.device)
    for n in setting.together:
        what = f"{n} models of {format_steps(base.steps)} steps of {base.batch_size} together"
        with part(what):
            configs = [replace(base, seed=seed) for seed in range(n)]
            taken, told = _whole_fits(configs, images, images[:8], setting.device)
            rate = 3600 * n / taken
            line(what, f"{told}, {rate:.4g} models an hour", "1")
            if rate > best and "failed" not in told:
                best = rate
                projected = f"{60 * GRID / rate:.3g} min (projection)"
                line(f"grid of {GRID} points at that rate", projected, "1", "60 min (near 10 min)")


def peer(setting: Setting):
    """Steps a second of plain PyTorch with a DataLoader on the same network, images and machine."""
    images, batch = setting.noise_images(), setting.paper().batch_size
    saved = setting.folder / "images.npy"
    np.save(saved, images)
    command = [sys.executable, str(ROOT / "benchmarks/peers/eager_step.py"), str(saved)]
    command += ["--device", pick_device(setting.device).type, "--batch", str(batch)]
    command += ["--steps", str(max(setting.timed[1] // 4, 10))]

    def eager():
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(answer.stdout.strip().split("\n")[-1])

    contenders = {
        "ours": partial(_step, setting, images, setting.fast(steps=1, batch_size=batch)),
        "eager PyTorch + DataLoader": eager,
    }
    interleaved(contenders, 1)  # warms up
    found, n = interleaved(contenders, setting.rounds), f"{setting.rounds} rounds, interleaved"
    for name, timed in found.items():
        what = f"{name}, batch {batch} at {setting.size}"
        line(what, spread([1 / s for s in timed], "steps/s"), n)
    own, other = found.values()
    line("ours against eager PyTorch", spread(np.divide(other, own), "×"), n, "5 × (near 10 ×)")


def _step(setting, images, config) -> float:
    return seconds_a_step([config], images, images[:8], setting.device, setting.timed)


def _whole_fits(configs, train, validation, device) -> tuple[float, str]:
    """Seconds of fits together, and these told with what failed."""
    start = time.perf_counter()
    fitted = train_together(configs, train, validation, device=device)
    taken = time.perf_counter() - start
    failed = [one.failure for one in fitted if one.failure]
    return taken, f"{taken:.4g} s" + (f"; {len(failed)} failed: {failed[0]}" if failed else "")


PARTS = {"step": step, "one": one_model, "race": race, "models": models_per_hour, "peer": peer}
SMALL = {"shape": (40, 56), "brains": 100, "seeds": 1, "reference_steps": 20, "lengths": (20,)}
SMALL |= {"timed": (2, 12), "rounds": 1, "together": (1, 2)}


def main():
    parser = options(__doc__, "the same in a minute, on two cores")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=2, default=[320, 448], help="height and width")
    parser.add_argument("--folder", type=Path, help="cohort and runs stay here")
    parser.add_argument("--part", choices=PARTS, help=SUPPRESS)
    given = parser.parse_args()
    device, start = pick_device(given.device), time.perf_counter()
    if given.part:
        setting = Setting(given.device, given.folder, tuple(given.shape), seeds=given.seeds)
        if device.type != "cuda":
            setting = replace(setting, timed=(2, 12), rounds=3)
        with part(given.part):
            PARTS[given.part](replace(setting, **SMALL) if given.small else setting)
        return
    heading("Training", device)
    with tempfile.TemporaryDirectory(prefix="brainvae-gpu-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in given.only:
            command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder)]
            left = max(0, LIMIT - (time.perf_counter() - start))
            try:
                ended = subprocess.run([*command, "--part", name], timeout=left)
            except subprocess.TimeoutExpired:
                line(name, "not to its end: the time was up")
                continue
            if ended.returncode:
                line(name, f"failed: exit status {ended.returncode}")


if __name__ == "__main__":
    main()
