"""How soon the fast recipe has the held-out ELBO_β at which the paper's recipe ends.

    python benchmarks/reach.py [--shape 80 112] [--seeds 5] [--small] [--only race …]

Parts: ``reference`` runs the paper's recipe to its end; ``race`` fits the fast recipe in several
lengths and times a step of both, turn by turn; ``headline`` says what its longest fits are worth,
beside PCA; ``ingredients`` takes each of its ingredients away; ``alive`` fits many β and L and
counts those that fall to the mean image. Fits are runs in ``--folder``: what is there is not fitted
again, and what was interrupted goes on.

ELBO_β is −D − βR on validation brains, without the Gaussian's constant: nats an image that can be
compared over sizes. Test brains are not looked at.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from measure import elbo, heading, interleaved, interval, line, part, seconds_a_step, spread
from setting import ROOT, Setting

from brainvae_core.cohorts import known_factors
from brainvae_core.metrics import linear_recovery
from brainvae_core.models import PCAConfig, fit, fit_all
from brainvae_core.models.devices import pick_device
from brainvae_core.models.schedule import format_steps

# What the fast recipe is without one of its ingredients.
WITHOUT = {
    "everything in": {},
    "without Muon (Adam 1e-3)": {"optimiser": "adam", "learning_rate": 1e-3, "adam_beta2": 0.999},
    "without bfloat16": {"precision": "float32"},
    "without the KL warm-up": {"kl_warmup": 0.0},
    "without the learning-rate warm-up": {"lr_warmup": 0.0},
    "without the cosine": {"lr_cosine": False},
    "without the data-dependent start": {"initialisation": "authors"},
    "batch 8": {"batch_size": 8},
    "batch 32": {"batch_size": 32},
}
ALIVE = tuple(product((1.0, 3.0, 10.0, 20.0), (2, 4, 8, 20, 50, 100)))  # β, L


def reference(setting: Setting):
    """The paper recipe's curve for every β and seed."""
    cohort = setting.cohort()
    for beta, seed in product(setting.betas, range(setting.reference_seeds)):
        run = fit(cohort, setting.paper(beta=beta, seed=seed), _runs(setting), setting.device)
        what = f"recipe paper at {setting.size}, β = {beta:g}, seed {seed}"
        curve = ", ".join(
            f"{row['step']:,}: {elbo(row, beta):.0f}" for row in run.history if _told(row, run)
        )
        line(f"{what}: ELBO_β after steps", curve, "1")
        end = run.history[-1]
        rest = f"explained {end['explained_variance']:.3f}, rate {end['validation_kl']:.1f} nats"
        line(f"{what}, its end", f"{elbo(end, beta):.1f} nats, {rest}", "1")


def race(setting: Setting):
    """Whole fits of the fast recipe in every length, and what a step of each recipe takes."""
    cohort = setting.cohort()
    images = [cohort.split(name).images for name in ("train", "validation")]
    paper, fast = setting.paper(), setting.fast()

    def step(config):
        return seconds_a_step([config], *images, setting.device, setting.timed)

    timed = interleaved({"paper": lambda: step(paper), "fast": lambda: step(fast)}, setting.rounds)
    for (name, seconds), config in zip(timed.items(), (paper, fast), strict=True):
        what = f"recipe {name} at {setting.size}, a step of {config.batch_size}"
        line(what, spread([1000 * s for s in seconds], "ms"), f"{setting.rounds} rounds")
    whole = statistics.median(timed["paper"]) * paper.n_steps
    what = f"recipe paper at {setting.size}"
    line(f"{what}, {paper.n_steps:,} steps at that rate", f"{whole:,.0f} s", "")
    for beta in setting.betas:
        ends = [_end(setting, cohort, beta, seed) for seed in range(setting.reference_seeds)]
        wanted = statistics.mean(ends)
        line(f"{what}, β = {beta:g}: ELBO_β to reach", f"{wanted:.1f} nats", f"{len(ends)} seeds")
        for length in setting.tried:
            base = setting.fast(beta=beta, steps=length)
            told = _judged(setting, cohort, base, wanted, whole)
            name = f"recipe fast of {format_steps(base.steps)}, β = {beta:g}"
            line(name, told, f"{setting.seeds} seeds")


def headline(setting: Setting):
    """The longest fits of every β, and PCA: how well they do, and the planted factors in codes."""
    cohort = setting.cohort()
    factors = known_factors(cohort)
    pca = fit(cohort, PCAConfig(latent_dim=setting.fast().latent_dim), _runs(setting))
    what = f"PCA at {setting.size}"
    line(what, f"explained {pca.history[-1]['explained_variance']:.3f}", "")
    line(f"{what}: R² of the planted factors", _recovered(cohort, [pca], factors), "")
    for beta in setting.betas:
        base = setting.fast(beta=beta)
        configs = [replace(base, seed=seed) for seed in range(setting.seeds)]
        runs = [fit(cohort, config, _runs(setting), setting.device) for config in configs]
        ends = [run.history[-1] for run in runs]
        bounds, rates = [elbo(row, beta) for row in ends], [row["validation_kl"] for row in ends]
        figures = {
            "explained": [row["explained_variance"] for row in ends],
            "ELBO_β": bounds,
            "distortion": [-b - beta * r for b, r in zip(bounds, rates, strict=True)],
            "rate": rates,
            "active latents": [row["active_latents"] for row in ends],
            "seconds": [row["seconds"] for row in ends],
        }
        what = f"{format_steps(base.steps)}, β = {beta:g}, at {setting.size}"
        told = "; ".join(f"{name} {interval(values)}" for name, values in figures.items())
        line(what, told, f"{setting.seeds} seeds")
        line(f"{what}: R² of the planted factors", _recovered(cohort, runs, factors), "")


def ingredients(setting: Setting):
    """The fast recipe, and it without each ingredient, in as many steps."""
    cohort = setting.cohort()
    growing = isinstance(setting.fast().steps, tuple)
    changes = WITHOUT | ({"without growth": {"steps": setting.fast().n_steps}} if growing else {})
    for name, change in changes.items():
        if growing and change.get("initialisation") == "authors":
            continue  # cannot grow
        line(name, _judged(setting, cohort, replace(setting.fast(), **change)), f"{setting.seeds}")


def alive(setting: Setting):
    """Fits over β and L that keep no latent, or explain nothing."""
    cohort = setting.cohort()
    seeds = range(setting.seeds)
    configs = [setting.fast(beta=b, latent_dim=n, seed=s) for s in seeds for b, n in ALIVE]
    runs = fit_all(cohort, configs, _runs(setting), setting.device, together=2, halve=True)
    ends = [(run.config, run.history[-1]) for run in runs]
    dead = [c.label for c, end in ends if not end["active_latents"]]
    mean = [c.label for c, end in ends if end["explained_variance"] < 0.1]
    figure = f"{len(configs) - len(runs)} failed, {len(dead)} collapsed, {len(mean)} at the mean"
    line(f"β 1 to 20, L 2 to 100 at {setting.size}", figure, f"{len(configs)} fits", "0")


def _judged(setting, cohort, base, wanted=None, whole=None) -> str:
    """The ends of a configuration's fits over seeds, and how they stand to what is wanted."""
    configs = [replace(base, seed=seed) for seed in range(setting.seeds)]
    runs = [fit(cohort, c, _runs(setting), setting.device) for c in configs]
    ends = [elbo(run.history[-1], base.beta) for run in runs]
    seconds = [run.history[-1]["seconds"] for run in runs]
    explained = interval([run.history[-1]["explained_variance"] for run in runs])
    told = f"{interval(ends)} nats, explained {explained}, {spread(seconds, 's')}"
    if wanted is None:
        return f"{told}, {runs[0].made['precision']}"
    reached = sum(end >= wanted for end in ends)
    return f"{told}; {reached} of {len(ends)} reach it; {whole / statistics.median(seconds):.3g} ×"


def _end(setting, cohort, beta, seed) -> float:
    run = fit(cohort, setting.paper(beta=beta, seed=seed), _runs(setting), setting.device)
    return elbo(run.history[-1], beta)


def _recovered(cohort, runs, factors) -> str:
    """How well validation brains' factors are read off codes by a map fitted on training brains."""
    parts = [cohort.split(name) for name in ("train", "validation")]
    known = [factors[cohort.metadata["split"] == name] for name in ("train", "validation")]
    found = []
    for run in runs:
        codes = [run.model.encode(part.images) for part in parts]
        found.append(linear_recovery(codes[0], known[0], codes[1], known[1]))
    means = np.mean(found, axis=0)
    return ", ".join(f"{name} {r2:.2f}" for name, r2 in zip(factors, means, strict=True))


def _told(row, run) -> bool:
    """About ten rows of a curve."""
    steps = run.config.n_steps
    return row["step"] * 10 % steps < 10 * run.config.validate_every or row["step"] == steps


def _runs(setting) -> Path:
    return setting.folder / "runs"


PARTS = {
    "reference": reference,
    "race": race,
    "headline": headline,
    "ingredients": ingredients,
    "alive": alive,
}
SMALL = {
    "shape": (40, 56),
    "brains": 400,
    "seeds": 2,
    "reference_seeds": 1,
    "reference_steps": 1000,
    "lengths": (150, 300),
    "timed": (5, 25),
    "rounds": 2,
}


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="40 × 56, 400 brains: minutes")
    parser.add_argument("--shape", type=int, nargs=2, default=[80, 112], help="height and width")
    parser.add_argument("--betas", type=float, nargs="+", default=[3.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--reference-seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="some of the parts")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, default=ROOT / "_build/reach")
    return parser


def main():
    given = options().parse_args()
    setting = Setting(
        device=given.device,
        folder=given.folder / ("small" if given.small else "full"),
        shape=tuple(given.shape),
        betas=tuple(given.betas),
        seeds=given.seeds,
        reference_seeds=given.reference_seeds,
        timed=(5, 25),
    )
    setting = replace(setting, **SMALL) if given.small else setting
    setting.folder.mkdir(parents=True, exist_ok=True)
    heading("The race to the paper recipe's ELBO", pick_device(given.device))
    for name in given.only or (["reference", "race"] if given.small else PARTS):
        with part(name):
            PARTS[name](setting)


if __name__ == "__main__":
    main()
