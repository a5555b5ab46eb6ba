"""How soon the paper recipe's held-out ELBO is reached: by one model, and over the grid.

ELBO_β at the configuration's β is what counts, whatever the KL warm-up has come to, and a fit that
loses it again has not reached it. The ELBO at β = 1 is told beside it.
"""

from __future__ import annotations

import json
import time

import numpy as np
from measure import at_beta_1, full_strength, interval, line, part
from setting import Setting

from brainvae_core.models import Study, fit_all
from brainvae_core.models.recipes import FastRecipe, PaperRecipe


def time_to_elbo(setting: Setting):
    """Seconds until the fast recipe has, for good, the ELBO_β at which the paper recipe ends."""
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
        what = f"recipe fast of {length} steps to the ELBO_β of {steps:,}"
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
            _, history = paper.fit(train, validation, device=setting.device)
            ends = fitted[latent_dim, beta].history[-1], history[-1]
            for name, elbo in {
                f"ELBO_β, β = {beta}": full_strength,
                "ELBO, β = 1": at_beta_1,
            }.items():
                what = (
                    f"held-out {name}, fitted at L = {latent_dim}, β = {beta}: grid against paper"
                )
                figure = "{:.1f} against {:.1f} nats an image".format(*map(elbo, ends))
                line(what, figure, "1")


def _references(setting, seed, train, validation) -> dict[int, float]:
    """The paper recipe's held-out ELBO_β after some numbers of steps."""
    # No schedule of the paper recipe depends on its length: one fit passes all of them.
    every = int(np.gcd.reduce(setting.reference_steps))
    changes = {"steps": max(setting.reference_steps), "validate_every": every, "seed": seed}
    paper = setting.recipe(PaperRecipe(), **changes)
    _, history = paper.fit(train, validation, device=setting.device)
    rows = {row["step"]: row for row in history}
    for steps in setting.reference_steps:
        what = f"recipe paper, seed {seed}, held-out ELBO_β after {steps:,} steps"
        figure = f"{_both(rows[steps])}, {rows[steps]['seconds']:.4g} s"
        line(what, figure, "1", "4 h in the paper")
    return {steps: full_strength(rows[steps]) for steps in setting.reference_steps}


def _times_to(setting, seed, length, references, train, validation):
    """(reference's steps, (seconds of steps, seconds with set-up)) for each that is reached."""
    every = max(1, length // 40)
    fast = setting.recipe(FastRecipe(), seed=seed, steps=length, validate_every=every)
    start = time.perf_counter()
    _, history = fast.fit(train, validation, device=setting.device)
    end = history[-1]
    setting_up = time.perf_counter() - start - end["seconds"]
    for steps, wanted in references.items():
        what = f"recipe fast of {length} steps, seed {seed}, to the ELBO_β of {steps:,}"
        first = first_to_reach(wanted, history)
        if first and full_strength(end) >= wanted:
            seconds, whole = first["seconds"], first["seconds"] + setting_up
            figure = f"{seconds:.4g} s at step {first['step']}, {whole:.4g} s with set-up"
            line(what, f"{figure}; ends at {_both(end)}", "1", "10 s (near 3 s)")
            yield steps, (seconds, whole)
        else:
            lost = f"reached at step {first['step']} and lost" if first else "not reached"
            line(what, f"{lost}: ends at {_both(end)} of {wanted:.1f}", "1", "10 s (near 3 s)")


def first_to_reach(wanted: float, history: list[dict]) -> dict | None:
    """The first row of a history whose held-out ELBO_β is at least what is wanted."""
    return next((row for row in history if full_strength(row) >= wanted), None)


def _both(row):
    return f"{full_strength(row):.1f} nats an image (at β = 1: {at_beta_1(row):.1f})"
