"""Training: how soon the fast recipe has the held-out ELBO_β at which the paper's recipe ends.

    python benchmarks/reach.py [--shape 320 448] [--betas 3] [--small] [--only race …]

``reference`` runs the paper's recipe to its end; ``race`` fits the fast recipe in several lengths
and times a step of both, turn by turn; ``models`` counts models an hour, several together; ``peer``
times a peer on the same network. When asked for, ``ingredients`` takes each of the recipe's away,
and ``alive`` counts fits over β and L that fall to the mean image. Each part is a process of its
own, so that none is lost with another, and writes each line when it has it. Fits are runs in
``_build/reach``: what is there is not fitted again, and what was interrupted goes on.

ELBO_β is −D − βR on validation brains, without the Gaussian's constant: nats an image that can be
compared over sizes. Test brains are not looked at.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from measure import (
    heading,
    in_own_process,
    interleaved,
    line,
    options,
    part,
    seconds_a_step,
    spread,
)
from peer import seconds_a_plain_step
from scipy.stats import t

from brainvae_core.cohorts import ccf_atlas, drawn_atlas, open_cohort, simulate
from brainvae_core.models import fit, fit_all
from brainvae_core.models.config import FAST_STAGES, BetaVAEConfig, format_steps, paper_config
from brainvae_core.models.devices import pick_device
from brainvae_core.models.training import train_together
from brainvae_core.models.vae import PAPER_SHAPE

ROOT = Path(__file__).parent.parent
GRID = 20 * 17  # values of β by values of L
# What the fast recipe is tried with at each size, steps or stages; the last is the recipe.
LENGTHS = {
    (40, 56): (500, 1000),
    (80, 112): (1000, 1500, 2500),
    (160, 224): ("80x112: 1500, 160x224: 400", "80x112: 2500, 160x224: 400"),
    PAPER_SHAPE: ("80x112: 500, 160x224: 200, 320x448: 400", FAST_STAGES),
}
# What the fast recipe is without one of its ingredients.
WITHOUT = {
    "everything in": {},
    "without Muon (Adam 1e-3)": {"optimiser": "adam", "learning_rate": 1e-3, "adam_beta2": 0.999},
    "Muon on whole matrices": {"muon_rows": 2**16},
    "without bfloat16": {"precision": "float32"},
    "without the KL warm-up": {"kl_warmup": 0.0},
    "without the learning-rate warm-up": {"lr_warmup": 0.0},
    "without the cosine": {"lr_cosine": False},
    "without the data-dependent start": {"initialisation": "authors"},
    "batch 8": {"batch_size": 8},
    "batch 32": {"batch_size": 32},
}
ALIVE = tuple(product((1.0, 3.0, 10.0, 20.0), (2, 4, 8, 20, 50, 100)))  # β, L


@dataclass(frozen=True)
class Setting:
    """What a run of the training benchmarks is made of."""

    device: str
    folder: Path  # the cohort, the runs, and what one part tells another
    shape: tuple[int, int]
    betas: tuple[float, ...]
    reference_seeds: int
    timed: tuple[int, int]  # numbers of steps between which a slope is taken
    brains: int = 1_723
    seeds: int = 5
    reference_steps: int = 10_000
    lengths: tuple = ()  # of the fast recipe; those of the size where there are none
    rounds: int = 5
    together: tuple[int, ...] = (1, 2, 4, 8, 16)

    def paper(self, **changes) -> BetaVAEConfig:
        """The paper recipe, with the likelihood that its ELBO can be compared by."""
        steps, every = self.reference_steps, max(1, self.reference_steps // 40)
        given = {"likelihood": "gaussian", "steps": steps, "validate_every": every}
        return paper_config(**given | changes)

    def fast(self, **changes) -> BetaVAEConfig:
        """The fast recipe at this size, in the last of its lengths."""
        return BetaVAEConfig(**{"steps": self.tried[-1], **changes})

    @property
    def tried(self) -> tuple:
        return self.lengths or LENGTHS[self.shape]

    @property
    def size(self) -> str:
        return f"{self.shape[0]} × {self.shape[1]}"

    def noise(self) -> tuple[np.ndarray, np.ndarray]:
        """Images to fit to, and a few to validate on, for what does not depend on them."""
        images = np.random.default_rng(0).random((1280, *self.shape), dtype=np.float32)
        return images, images[:8]

    def cohort(self):
        """The simulated cohort: on the CCF slice where its files are at hand, else on the drawn."""
        data = os.environ.get("BRAINVAE_DATA")
        path = self.folder / f"{'ccf' if data else 'drawn'}-{self.brains}-{self.shape[0]}"
        if not path.exists():
            whole = simulate(self.brains, ccf_atlas(data) if data else drawn_atlas(), seed=0)
            (whole if self.shape == PAPER_SHAPE else whole.resampled(self.shape)).save(path)
        return open_cohort(path)

    def fit(self, cohort, config):
        """The run of a configuration, fitted or loaded."""
        return fit(cohort, config, self.folder / "runs", self.device)

    def ends(self, cohort, base, n_seeds: int) -> list[dict]:
        """The last rows of several seeds' histories, and their ELBO_β; models are let go."""
        configs = [replace(base, seed=seed) for seed in range(n_seeds)]
        rows = (self.fit(cohort, config).history[-1] for config in configs)
        return [row | {"elbo": elbo(row, base.beta)} for row in rows]


def slope(setting: Setting, config, images=()) -> float:
    """Seconds a step of one model."""
    return seconds_a_step([config], *(images or setting.noise()), setting.device, setting.timed)


def elbo(row: dict, beta: float) -> float:
    """Held-out ELBO_β of a row of a history, nats per image, without the Gaussian's constant."""
    pixels = row["height"] ** 2 * 7 / 5
    constant = pixels * (math.log(row["sigma"]) + 0.5 * math.log(2 * math.pi))
    return -(row["validation_reconstruction"] - constant + beta * row["validation_kl"])


def interval(values) -> str:
    """Mean and 95 % interval of Student's t."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return f"{values[0]:.4g} (one value: no interval)"
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.4g} ± {half:.3g}"


def reference(setting: Setting):
    """The paper recipe's curve for every β and seed."""
    cohort = setting.cohort()
    for beta, seed in product(setting.betas, range(setting.reference_seeds)):
        config = setting.paper(beta=beta, seed=seed)
        history = setting.fit(cohort, config).history
        what = f"recipe paper at {setting.size}, β = {beta:g}, seed {seed}"
        tenth = max(config.n_steps // 10, config.validate_every)
        told = [row for row in history if row["step"] % tenth < config.validate_every]
        curve = ", ".join(f"{row['step']:,}: {elbo(row, beta):.0f}" for row in told)
        line(f"{what}: ELBO_β after steps", curve, "1")
        end = history[-1]
        rest = f"explained {end['explained_variance']:.3f}, rate {end['validation_kl']:.1f} nats"
        line(f"{what}, its end", f"{elbo(end, beta):.1f} nats, {rest}", "1")


def race(setting: Setting):
    """Whole fits of the fast recipe in every length, and what a step of each recipe takes."""
    cohort = setting.cohort()
    images = [cohort.split(name).images for name in ("train", "validation")]
    recipes = {"paper": setting.paper(), "fast": setting.fast()}
    steps = {name: partial(slope, setting, config, images) for name, config in recipes.items()}
    timed = interleaved(steps, setting.rounds)
    del images, steps  # every fit reads its own
    for name, config in recipes.items():
        what = f"recipe {name} at {setting.size}, a step of {config.batch_size}"
        line(what, spread([1000 * s for s in timed[name]], "ms"), f"{setting.rounds} rounds")
    n_steps = recipes["paper"].n_steps
    whole = statistics.median(timed["paper"]) * n_steps
    what = f"recipe paper at {setting.size}"
    line(f"{what}, {n_steps:,} steps at that rate", f"{whole:,.0f} s", "")
    for beta in setting.betas:
        ends = setting.ends(cohort, setting.paper(beta=beta), setting.reference_seeds)
        wanted = statistics.mean(end["elbo"] for end in ends)
        line(f"{what}, β = {beta:g}: ELBO_β to reach", f"{wanted:.1f} nats", f"{len(ends)} seeds")
        for length in setting.tried:
            base = setting.fast(beta=beta, steps=length)
            told = judged(setting, cohort, base, wanted, whole)
            name = f"recipe fast of {format_steps(base.steps)}, β = {beta:g}"
            line(name, told, f"{setting.seeds} seeds")


def ingredients(setting: Setting):
    """The fast recipe, and it without each ingredient, in as many steps."""
    cohort = setting.cohort()
    growing = isinstance(setting.fast().steps, tuple)
    changes = WITHOUT | ({"without growth": {"steps": setting.fast().n_steps}} if growing else {})
    for name, change in changes.items():
        if growing and change.get("initialisation") == "authors":
            continue  # cannot grow
        line(name, judged(setting, cohort, replace(setting.fast(), **change)), f"{setting.seeds}")


def alive(setting: Setting):
    """Fits over β and L that keep no latent, or explain nothing."""
    cohort, ends = setting.cohort(), []
    for seed in range(setting.seeds):  # the models of one seed are held at once
        configs = [setting.fast(beta=b, latent_dim=n, seed=seed) for b, n in ALIVE]
        folder = setting.folder / "runs"
        runs = fit_all(cohort, configs, folder, setting.device, together=2)
        ends += [run.history[-1] for run in runs]
        del runs
    n = len(ALIVE) * setting.seeds
    dead = sum(not end["active_latents"] for end in ends)
    mean = sum(end["explained_variance"] < 0.1 for end in ends)
    figure = f"{n - len(ends)} failed, {dead} collapsed, {mean} at the mean"
    line(f"β 1 to 20, L 2 to 100 at {setting.size}", figure, f"{n} fits", "0")


def judged(setting, cohort, base, wanted=None, whole=None) -> str:
    """The ends of a configuration's fits over seeds, and how they stand to what is wanted."""
    rows = setting.ends(cohort, base, setting.seeds)
    ends, seconds = [row["elbo"] for row in rows], [row["seconds"] for row in rows]
    explained = interval([row["explained_variance"] for row in rows])
    told = f"{interval(ends)} nats, explained {explained}, {spread(seconds, 's')}"
    if wanted is None:
        return told
    reached = sum(end >= wanted for end in ends)
    return f"{told}; {reached} of {len(ends)} reach it; {whole / statistics.median(seconds):.3g} ×"


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


PARTS = {"reference": reference, "race": race, "models": models_per_hour, "peer": peer}
LONG = {"ingredients": ingredients, "alive": alive}  # hours: when they are asked for
SMALL = {"shape": (40, 56), "brains": 100, "seeds": 1, "reference_seeds": 1, "timed": (2, 12)}
SMALL |= {"reference_steps": 20, "lengths": (20,), "rounds": 1, "together": (1, 2)}


def main():
    parser = options(__doc__, "the same in a minute, on two cores")
    parser.add_argument("--shape", type=int, nargs=2, help="320 448 on a GPU, else 80 112")
    parser.add_argument("--betas", type=float, nargs="+", default=[3.0])
    parser.add_argument("--reference-seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=PARTS | LONG, default=list(PARTS))
    given = parser.parse_args()
    device = pick_device(given.device)
    is_gpu = device.type == "cuda"
    folder = ROOT / "_build/reach" / ("small" if given.small else "full")
    folder.mkdir(parents=True, exist_ok=True)
    shape = tuple(given.shape or (PAPER_SHAPE if is_gpu else (80, 112)))
    timed = (200, 1200) if is_gpu else (5, 25)  # numbers of steps between which a slope is taken
    asked = {"shape": shape, "betas": tuple(given.betas), "timed": timed}
    asked |= {"reference_seeds": given.reference_seeds} | (SMALL if given.small else {})
    setting = Setting(given.device, folder, **asked)
    heading("Training", device)
    for name in given.only:
        with part(name):
            in_own_process((PARTS | LONG)[name], setting)


if __name__ == "__main__":
    main()
