"""How fast a step is: against the machine, against peers, and with models trained together."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
from limits import measure_limits, memory_floor
from measure import interleaved, line, part, seconds_a_step, spread
from setting import ROOT, Setting

from brainvae_core.models.devices import pick_device
from brainvae_core.models.schedule import format_steps
from brainvae_core.models.training import train_together

GRID = 20 * 17  # values of β by values of L


def step_and_limits(setting: Setting):
    """A step of the trainer over the time that moving its activations takes."""
    copy_rate = measure_limits(pick_device(setting.device))
    images = setting.noise_images()
    fast = setting.fast(steps=1)
    configs = {"recipe paper": setting.paper()}
    for precision in ("float32", "bfloat16"):
        configs[f"recipe fast in {precision}"] = replace(fast, precision=precision)
    for name, config in configs.items():
        what = f"step of {config.batch_size} at {setting.size}, {name}"
        with part(what):
            timed = [
                seconds_a_step([config], images, images[:8], setting.device, setting.timed)
                for _ in range(setting.rounds)
            ]
            floor = memory_floor(setting.shape, config.batch_size, config.precision, copy_rate)
            over = statistics.median(timed) / floor
            ms = spread([1000 * s for s in timed], "ms")
            n = f"{setting.rounds} slopes over {setting.timed[0]} to {setting.timed[1]} steps"
            line(what, f"{ms}, {1 / statistics.median(timed):.4g} steps/s", n)
            figure = f"{over:.3g} × the floor of {1000 * floor:.3g} ms ({config.precision})"
            line(f"{what}, over the memory floor", figure, n, "2.5 × (near 1.3 ×)")


def peers(setting: Setting):
    """Steps a second of other trainers on the same network, images and machine."""
    images = setting.noise_images()
    saved = setting.folder / "images.npy"
    np.save(saved, images)
    steps = max(setting.timed[1] // 4, 10)
    device = pick_device(setting.device).type

    batch = setting.paper().batch_size

    def ours(config):
        return seconds_a_step([config], images, images[:8], setting.device, setting.timed)

    def theirs(script, python):
        command = [python, str(ROOT / "benchmarks/peers" / script), str(saved), "--device", device]
        command += ["--batch", str(batch), "--steps", str(steps)]
        path_to_ours = {**os.environ, "PYTHONPATH": str(ROOT)}
        answer = subprocess.run(command, capture_output=True, text=True, env=path_to_ours)
        if answer.returncode:
            raise RuntimeError(answer.stderr.strip().split("\n")[-1])
        return float(answer.stdout.strip().split("\n")[-1])

    contenders = {
        "ours, recipe fast": lambda: ours(setting.fast(steps=1, batch_size=batch)),
        "ours, recipe paper": lambda: ours(setting.paper()),
        "eager PyTorch + DataLoader": lambda: theirs("eager_step.py", sys.executable),
        "pythae's trainer": lambda: theirs("pythae_step.py", setting.peers_python),
    }
    running = {}
    for name, contender in contenders.items():
        with part(f"first run of {name}"):
            contender()
            running[name] = contender
    found = interleaved(running, setting.rounds)
    for name, timed in found.items():
        rates = [1 / s for s in timed]
        n = f"{setting.rounds} rounds, interleaved"
        line(f"{name}, batch {batch} at {setting.size}", spread(rates, "steps/s"), n)
        if not name.startswith("ours") and "ours, recipe fast" in found:
            ratios = [t / o for t, o in zip(timed, found["ours, recipe fast"], strict=True)]
            limit = "5 × (near 10 ×)" if name.startswith("eager") else ""
            line(f"ours, recipe fast, against {name}", spread(ratios, "×"), n, limit)


def one_model(setting: Setting):
    """One model by each recipe, from its start to its end."""
    images = setting.noise_images()
    for name, config in {"paper": setting.paper(), "fast": setting.fast()}.items():
        what = (
            f"one model by the {name} recipe at {setting.size}, {format_steps(config.steps)} steps"
        )
        with part(what):
            start = time.perf_counter()
            (fitted,) = train_together([config], images, images[:64], device=setting.device)
            told = f"; {fitted.failure}" if fitted.failure else ""
            line(what, f"{time.perf_counter() - start:.4g} s{told}", "1")


def models_per_hour(setting: Setting):
    """Whole fits of the fast recipe, more and more of them at once."""
    images = setting.noise_images()
    base, best = setting.fast(), 0.0
    warm_up = replace(base, steps=2, validate_every=2)
    train_together([warm_up], images, images[:8], device=setting.device)
    for n in setting.together:
        what = f"{n} models of {format_steps(base.steps)} steps of {base.batch_size} together"
        with part(what):
            configs = [replace(base, seed=seed) for seed in range(n)]
            start = time.perf_counter()
            fitted = train_together(configs, images, images[:8], device=setting.device)
            failed = [one.failure for one in fitted if one.failure]
            seconds = time.perf_counter() - start
            rate = 3600 * n / seconds
            told = f"; {len(failed)} failed: {failed[0]}" if failed else ""
            line(what, f"{seconds:.4g} s, {rate:.4g} models an hour{told}", "1")
            if rate > best and not failed:
                best = rate
                projected = f"{60 * GRID / rate:.3g} min (projection)"
                line(f"grid of {GRID} points at that rate", projected, "1", "60 min (near 10 min)")
