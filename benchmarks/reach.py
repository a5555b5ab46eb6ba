"""How soon the paper recipe's held-out ELBO is reached: by one model, and over the grid."""

from __future__ import annotations

import json
import time

import numpy as np
from measure import held_out_elbo, interval, line, part
from setting import Setting

from brainvae_core.models import Study, fit_all
from brainvae_core.models.recipes import FastRecipe, PaperRecipe
from brainvae_core.models.training import train_together


def time_to_elbo(setting: Setting):
    """Seconds until the fast recipe has the held-out ELBO at which the paper recipe ends."""
    cohort = setting.cohort()
    train, validation = cohort.split("train").images, cohort.split("validation").images
    reached = {}
    for seed in range(setting.seeds):
        with part(f"time to ELBO, seed {seed}"):
            references = _references(setting, seed, train, validation)
            for length in setting.fast_steps:
                for steps, taken in _times_to(setting, seed, length, references, train, validation):
                    reached.setdefault((length, steps), []).append(taken)
    for (length, steps), taken in reached.items():
        in_steps, whole = (interval(values) for values in zip(*taken, strict=True))
        what = f"recipe fast of {length} steps to the ELBO of {steps:,}"
        n = f"{len(taken)} of {setting.seeds} seeds, 95 % t-interval"
        line(what, f"{in_steps} s; with set-up {whole} s", n, "10 s (near 3 s)")


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


def _references(setting, seed, train, validation) -> dict[int, float]:
    """The paper recipe's held-out ELBO after some numbers of steps."""
    # No schedule of the paper recipe depends on its length: one fit passes all of them.
    every = int(np.gcd.reduce(setting.reference_steps))
    changes = {"steps": max(setting.reference_steps), "validate_every": every, "seed": seed}
    (fitted,) = train_together(
        [setting.recipe(PaperRecipe(), **changes)], train, validation, device=setting.device
    )
    rows = {row["step"]: row for row in fitted.history}
    for steps in setting.reference_steps:
        what = f"recipe paper, seed {seed}, held-out ELBO after {steps:,} steps"
        figure = f"{held_out_elbo(rows[steps]):.1f} nats an image, {rows[steps]['seconds']:.4g} s"
        line(what, figure, "1", "4 h in the paper")
    return {steps: held_out_elbo(rows[steps]) for steps in setting.reference_steps}


def _times_to(setting, seed, length, references, train, validation):
    """(reference's steps, (seconds of steps, seconds with set-up)) for each that is reached."""
    fast = setting.recipe(
        FastRecipe(), seed=seed, steps=length, validate_every=max(1, length // 40)
    )
    start = time.perf_counter()
    (fitted,) = train_together([fast], train, validation, device=setting.device)
    setting_up = time.perf_counter() - start - fitted.history[-1]["seconds"]
    for steps, wanted in references.items():
        over = [row for row in fitted.history if held_out_elbo(row) >= wanted]
        what = f"recipe fast of {length} steps, seed {seed}, to the ELBO of {steps:,}"
        if over:
            seconds = over[0]["seconds"]
            whole = f"{seconds + setting_up:.4g} s with set-up"
            line(
                what, f"{seconds:.4g} s at step {over[0]['step']}, {whole}", "1", "10 s (near 3 s)"
            )
            yield steps, (seconds, seconds + setting_up)
        else:
            best = max(map(held_out_elbo, fitted.history))
            line(what, f"not reached: {best:.1f} of {wanted:.1f}", "1", "10 s (near 3 s)")
