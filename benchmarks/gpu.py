"""Everything that is claimed of a GPU, in one command; the same runs on a CPU.

    python benchmarks/gpu.py [--device auto] [--small] [--grid] > results.md

Each part is a process of its own, so that none is lost with another, and writes each line when it
has it: the machine's limits and a step against them; peers on the same network and images; time to
the paper recipe's held-out ELBO; models per hour; with ``--grid`` the 340-point grid itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from limits import measure_limits, memory_floor
from measure import (
    heading,
    held_out_elbo,
    interleaved,
    interval,
    line,
    part,
    seconds_a_step,
    spread,
)

from brainvae_core.models import Study, fit_all
from brainvae_core.models.config import BetaVAEConfig
from brainvae_core.models.devices import pick_device
from brainvae_core.models.recipes import FastRecipe, PaperRecipe
from brainvae_core.models.training import train_together

ROOT = Path(__file__).parent.parent
POINT = {"latent_dim": 8, "beta": 3.0}  # the paper's choice
SAMPLE = ((4, 1), (8, 3), (20, 20))  # (L, β) at which the grid is held against the paper recipe


@dataclass(frozen=True)
class Setting:
    """What a run of the benchmark is made of."""

    device: str
    folder: Path  # the cohort, and what one part tells another
    shape: tuple[int, int] = (320, 448)
    brains: int = 1_723
    batch: int = 64
    steps: tuple[int, int] = (200, 1200)  # between which a slope is taken
    rounds: int = 5
    seeds: int = 3
    together: tuple[int, ...] = (1, 2, 4, 8, 16)
    betas: tuple[int, ...] = tuple(range(1, 21))
    latent_dims: tuple[int, ...] = tuple(range(4, 21))
    sample: tuple = SAMPLE
    reference_steps: tuple[int, ...] = (10_000,)
    fast_steps: tuple[int, ...] = (FastRecipe().steps,)
    peers_python: str = sys.executable

    def recipe(self, recipe, **changes) -> BetaVAEConfig:
        return recipe.config(batch_size=self.batch, **{**POINT, **changes})

    def noise_images(self) -> np.ndarray:
        """Images for what does not depend on them: how long a step takes."""
        rng = np.random.default_rng(0)
        return rng.random((20 * self.batch, *self.shape), dtype=np.float32)

    def cohort(self):
        """The simulated cohort, made by the first part that needs it."""
        from brainvae_core.cohorts import open_cohort, simulate  # a bare GPU image may lack these

        path = self.folder / f"simulated-{self.brains}.zarr"
        if not path.exists():
            simulate(self.brains, shape=self.shape).save(path)
        return open_cohort(path)


def step_and_limits(setting: Setting):
    """A step of the trainer over the time that moving its activations takes."""
    copy_rate = measure_limits(pick_device(setting.device))
    images = setting.noise_images()
    fast, paper = setting.recipe(FastRecipe()), setting.recipe(PaperRecipe())
    configs = {"recipe paper": paper, "recipe fast": fast}
    for precision in ("float32", "bfloat16"):
        if precision != fast.precision:
            configs[f"recipe fast in {precision}"] = replace(fast, precision=precision)
    for name, config in configs.items():
        what = f"step of {config.batch_size} at {_size(setting)}, {name}"
        with part(what):
            timed = [
                seconds_a_step([config], images, images[:8], setting.device, setting.steps)
                for _ in range(setting.rounds)
            ]
            floor = memory_floor(setting.shape, config.batch_size, config.precision, copy_rate)
            over = statistics.median(timed) / floor
            ms = spread([1000 * s for s in timed], "ms")
            n = f"{setting.rounds} slopes over {setting.steps[0]} to {setting.steps[1]} steps"
            line(what, f"{ms}, {1 / statistics.median(timed):.4g} steps/s", n)
            figure = f"{over:.3g} × the floor of {1000 * floor:.3g} ms ({config.precision})"
            line(f"{what}, over the memory floor", figure, n, "2.5 × (near 1.3 ×)")


def peers(setting: Setting):
    """Steps a second of other trainers on the same network, images and machine."""
    images = setting.noise_images()
    saved = setting.folder / "images.npy"
    np.save(saved, images)
    steps = max(setting.steps[1] // 4, 10)
    device = pick_device(setting.device).type

    def ours(recipe):
        config = setting.recipe(recipe)
        return seconds_a_step([config], images, images[:8], setting.device, setting.steps)

    def theirs(script, python):
        command = [python, str(ROOT / "benchmarks/peers" / script), str(saved), "--device", device]
        command += ["--batch", str(setting.batch), "--steps", str(steps)]
        path_to_ours = {**os.environ, "PYTHONPATH": str(ROOT)}
        answer = subprocess.run(command, capture_output=True, text=True, env=path_to_ours)
        if answer.returncode:
            raise RuntimeError(answer.stderr.strip().split("\n")[-1])
        return float(answer.stdout.strip().split("\n")[-1])

    contenders = {
        "ours, recipe fast": lambda: ours(FastRecipe()),
        "ours, recipe paper": lambda: ours(PaperRecipe()),
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
        line(f"{name}, batch {setting.batch} at {_size(setting)}", spread(rates, "steps/s"), n)
        if not name.startswith("ours") and "ours, recipe fast" in found:
            ratios = [t / o for t, o in zip(timed, found["ours, recipe fast"], strict=True)]
            limit = "5 × (near 10 ×)" if name.startswith("eager") else ""
            line(f"ours, recipe fast, against {name}", spread(ratios, "×"), n, limit)


def time_to_elbo(setting: Setting):
    """Seconds until the fast recipe has the held-out ELBO at which the paper recipe ends."""
    cohort = setting.cohort()
    train, validation = cohort.split("train").images, cohort.split("validation").images
    reached = {}
    for seed in range(setting.seeds):
        paper = setting.recipe(
            PaperRecipe(),
            seed=seed,
            steps=max(setting.reference_steps),
            validate_every=int(np.gcd.reduce(setting.reference_steps)),
        )
        # No schedule of the paper recipe depends on its length: one fit passes all references.
        (reference,) = train_together([paper], train, validation, device=setting.device)
        rows = {row["step"]: row for row in reference.history}
        for steps in setting.reference_steps:
            what = f"recipe paper, seed {seed}, held-out ELBO after {steps:,} steps"
            figure = (
                f"{held_out_elbo(rows[steps]):.1f} nats an image, {rows[steps]['seconds']:.4g} s"
            )
            line(what, figure, "1", "4 h in the paper")
        for length in setting.fast_steps:
            fast = setting.recipe(FastRecipe(), seed=seed, steps=length)
            fast = replace(fast, validate_every=max(1, length // 40))
            start = time.perf_counter()
            (fitted,) = train_together([fast], train, validation, device=setting.device)
            setting_up = time.perf_counter() - start - fitted.history[-1]["seconds"]
            for steps in setting.reference_steps:
                wanted = held_out_elbo(rows[steps])
                over = [row for row in fitted.history if held_out_elbo(row) >= wanted]
                what = f"recipe fast of {length} steps, seed {seed}, to the ELBO of {steps:,}"
                if not over:
                    best = max(map(held_out_elbo, fitted.history))
                    line(what, f"not reached: {best:.1f} of {wanted:.1f}", "1", "10 s (near 3 s)")
                    continue
                taken = over[0]["seconds"], over[0]["seconds"] + setting_up
                reached.setdefault((length, steps), []).append(taken)
                figure = f"{taken[0]:.4g} s at step {over[0]['step']}, {taken[1]:.4g} s with set-up"
                line(what, figure, "1", "10 s (near 3 s)")
    for (length, steps), taken in reached.items():
        in_steps, whole = (interval(values) for values in zip(*taken, strict=True))
        what = f"recipe fast of {length} steps to the ELBO of {steps:,}"
        n = f"{len(taken)} of {setting.seeds} seeds, 95 % t-interval"
        line(what, f"{in_steps} s; with set-up {whole} s", n, "10 s (near 3 s)")


def models_per_hour(setting: Setting):
    """Whole fits of the fast recipe, more and more of them at once."""
    images = setting.noise_images()
    base = setting.recipe(FastRecipe(), steps=setting.fast_steps[0])
    best, grid = 0.0, len(setting.betas) * len(setting.latent_dims)
    for n in setting.together:
        what = f"{n} models of {base.steps} steps of {base.batch_size} together"
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
                (setting.folder / "together.json").write_text(json.dumps(n))
                projected = f"{60 * grid / rate:.3g} min (projection)"
                line(f"grid of {grid} points at that rate", projected, "1", "60 min (near 10 min)")


def grid(setting: Setting):
    """The grid itself, row by row, and the paper recipe at a few of its points."""
    cohort = setting.cohort()
    told = setting.folder / "together.json"
    together = json.loads(told.read_text()) if told.exists() else 1
    base = setting.recipe(FastRecipe(), steps=setting.fast_steps[0])
    study = Study(base, setting.betas, setting.latent_dims)
    fitted, start = {}, time.perf_counter()
    for latent_dim in study.latent_dims:
        vaes = [c for c in study.shard(latent_dim).configs if c.kind == "beta_vae"]
        runs = fit_all(cohort, vaes, setting.folder / "runs", setting.device, together, halve=True)
        fitted |= {(run.config.latent_dim, run.config.beta): run for run in runs}
        minutes = (time.perf_counter() - start) / 60
        what = f"grid of {len(study)} points on {len(cohort):,} brains, {together} together"
        line(f"{what}, rows to L = {latent_dim}", f"{len(fitted)} fitted in {minutes:.3g} min", "1")
    line(what, f"{len(fitted)} fitted in {minutes:.3g} min", "1", "60 min (near 10 min)")
    train, validation = cohort.split("train").images, cohort.split("validation").images
    for latent_dim, beta in setting.sample:
        with part(f"parity at L = {latent_dim}, β = {beta}"):
            point = {"latent_dim": latent_dim, "beta": beta, "steps": setting.reference_steps[0]}
            paper = setting.recipe(PaperRecipe(), **point)
            (reference,) = train_together([paper], train, validation, device=setting.device)
            of_grid = held_out_elbo(fitted[latent_dim, beta].history[-1])
            of_paper = held_out_elbo(reference.history[-1])
            figure = f"{of_grid:.1f} against {of_paper:.1f} nats an image"
            line(f"held-out ELBO at L = {latent_dim}, β = {beta}: grid against paper", figure, "1")


PARTS = {
    "limits": step_and_limits,
    "peers": peers,
    "elbo": time_to_elbo,
    "models": models_per_hour,
    "grid": grid,
}


def setting_of(given) -> Setting:
    """The setting that the command line asks for."""
    setting = Setting(
        device=given.device,
        folder=given.folder,
        seeds=given.seeds,
        reference_steps=tuple(given.reference_steps),
        fast_steps=tuple(given.fast_steps),
        peers_python=given.peers_python,
    )
    if pick_device(given.device).type != "cuda":
        setting = replace(setting, steps=(2, 12), rounds=3)
    if given.small:
        setting = replace(
            setting,
            shape=(40, 56),
            brains=40,
            batch=8,
            steps=(2, 12),
            rounds=2,
            seeds=2,
            together=(1, 2),
            betas=(1, 3),
            latent_dims=(4, 5),
            sample=((4, 1),),
            reference_steps=(10,),
            fast_steps=(20,),
        )
    return setting


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="the same in a minute, on two cores")
    parser.add_argument("--grid", action="store_true", help="fit all 340 points too")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="some of the parts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--reference-steps",
        type=int,
        nargs="+",
        default=[PaperRecipe().steps],
        help="of the paper recipe, such as 10000 30000 100000",
    )
    parser.add_argument(
        "--fast-steps",
        type=int,
        nargs="+",
        default=[FastRecipe().steps],
        help="lengths of the fast recipe that are tried",
    )
    parser.add_argument("--peers-python", default=str(_peers_python()), help="has pythae")
    parser.add_argument("--folder", type=Path, help="cohort and runs of the grid stay here")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser


def main():
    given = options().parse_args()
    if given.part:
        with part(given.part):
            PARTS[given.part](setting_of(given))
        return
    heading("Training", pick_device(given.device))
    wanted = given.only or [name for name in PARTS if name != "grid" or given.grid]
    with tempfile.TemporaryDirectory(prefix="brainvae-gpu-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder)]
            ended = subprocess.run([*command, "--part", name])
            if ended.returncode:
                line(name, f"failed: exit status {ended.returncode}")


def _peers_python() -> Path:
    own = ROOT / ".venv-peers/bin/python"
    return own if own.exists() else Path(sys.executable)


def _size(setting):
    return f"{setting.shape[0]} × {setting.shape[1]}"


if __name__ == "__main__":
    main()
