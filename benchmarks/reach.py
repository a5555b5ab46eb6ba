"""Training: how soon the fast recipe has the held-out ELBO_β at which the paper's recipe ends.

    python benchmarks/reach.py [--shape 320 448] [--betas 3] [--small] [--only race …]

``reference`` runs the paper's recipe to its end; ``race`` fits the fast recipe in several lengths
and times a step of both, turn by turn; ``models`` counts models an hour, several together; ``peer``
times a peer on the same network. When asked for, ``ingredients`` takes each of the recipe's away
in the last length but one (where images grow, growth alone), ``headline`` fits VAEs and PCA and
reads the planted factors from their codes, and ``alive`` counts fits over β and L that fall to the
mean image. Each part is a process of its own, so that none is lost with another, and writes each
line when it has it. Fits are runs in ``_build/reach``: what is there is not fitted again, and what
was interrupted goes on. ``--keep`` has race, ingredients and headline write their rows into
``results/measured``.

ELBO_β is −D − βR on validation brains, without the Gaussian's constant: nats an image that can be
compared over sizes. Test brains are not looked at.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from measure import (
    heading,
    in_own_process,
    interleaved,
    line,
    machine,
    options,
    part,
    seconds_a_step,
    spread,
)
from peer import seconds_a_plain_step
from scipy.stats import t

from brainvae_core.cohorts import ccf_atlas, drawn_atlas, known_factors, open_cohort, simulate
from brainvae_core.metrics import linear_recovery
from brainvae_core.models import PCAConfig, fit, fit_all
from brainvae_core.models.config import FAST_STAGES, BetaVAEConfig, format_steps, paper_config
from brainvae_core.models.devices import pick_device
from brainvae_core.models.training import train_together
from brainvae_core.models.vae import PAPER_SHAPE
from brainvae_core.results import MEASURED, measured, write_measured

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
    "Adam 1e-3 in place of Muon": {"optimiser": "adam", "learning_rate": 1e-3, "adam_beta2": 0.999},
    "Adam 2e-3, β₂ 0.99, in place of Muon": {"optimiser": "adam", "learning_rate": 2e-3},
    "Muon on whole matrices": {"muon_rows": 2**16},
    "without bfloat16": {"precision": "float32"},
    "without the KL warm-up": {"kl_warmup": 0.0},
    "without the learning-rate warm-up": {"lr_warmup": 0.0},
    "without the cosine": {"lr_cosine": False},
    "without the data-dependent start": {"initialisation": "authors"},
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
    kept: bool = False  # rows are written into results/measured

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

    def ends(self, cohort, base, n_seeds: int) -> pd.DataFrame:
        """`elbo_history` of several seeds' fits, their last rows; models are let go."""
        configs = [replace(base, seed=seed) for seed in range(n_seeds)]
        return pd.concat([elbo_history(self.fit(cohort, config)).tail(1) for config in configs])

    def keep(self, name: str, part: str, rows: pd.DataFrame) -> None:
        """Write a part's rows into a measured table, for those that it had at this size."""
        if not self.kept:
            return
        of = dict(zip(("height", "width"), self.shape, strict=True)) | {"part": part}
        of["atlas"] = "CCF slice" if "BRAINVAE_DATA" in os.environ else "drawn"
        of["machine"] = machine(pick_device(self.device))
        rows = rows.assign(**of)
        if (MEASURED / f"{name}.csv").exists():
            old, key = measured(name), ["part", "height", "atlas", "beta"]
            before, now = (pd.MultiIndex.from_frame(x[key].fillna(0)) for x in (old, rows))
            rows = pd.concat([old[~before.isin(now)], rows])
        write_measured(name, rows, {"cohort": self.cohort().identity, "seed": 0})


def slope(setting: Setting, config, images=()) -> float:
    """Seconds a step of one model."""
    return seconds_a_step([config], *(images or setting.noise()), setting.device, setting.timed)


def elbo_history(run) -> pd.DataFrame:
    """What a fit's validations say, a row each: ELBO_β in nats, without the Gaussian's constant."""
    history, config = pd.DataFrame(run.history), run.config
    rate = history["validation_kl"]
    pixels = history["height"] ** 2 * 7 / 5
    constant = pixels * (np.log(history["sigma"]) + 0.5 * np.log(2 * np.pi))
    distortion = history["validation_reconstruction"] - constant
    of = {"beta": config.beta, "seed": config.seed, "steps": format_steps(config.steps)}
    return history[["step", "seconds"]].assign(
        **of,
        elbo=-(distortion + config.beta * rate),
        distortion=distortion,
        rate=rate,
        explained=history["explained_variance"],
        active=history["active_latents"],
    )


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
        curve = elbo_history(setting.fit(cohort, config))
        what = f"recipe paper at {setting.size}, β = {beta:g}, seed {seed}"
        tenth = max(config.n_steps // 10, config.validate_every)
        some = curve[curve["step"] % tenth < config.validate_every]
        said = ", ".join(f"{row.step:,}: {row.elbo:.0f}" for row in some.itertuples())
        line(f"{what}: ELBO_β after steps", said, "1")
        end = curve.iloc[-1]
        rest = f"explained {end['explained']:.3f}, rate {end['rate']:.1f} nats"
        line(f"{what}, its end", f"{end['elbo']:.1f} nats, {rest}", "1")


def race(setting: Setting):
    """Whole fits of the fast recipe in every length, and what a step of each recipe takes."""
    cohort, rows = setting.cohort(), []
    images = [cohort.split(name).images for name in ("train", "validation")]
    recipes = {"paper": setting.paper(), "fast": setting.fast()}
    steps = {name: partial(slope, setting, config, images) for name, config in recipes.items()}
    timed = interleaved(steps, setting.rounds)
    del images, steps  # every fit reads its own
    for name, config in recipes.items():
        what = f"recipe {name} at {setting.size}, a step of {config.batch_size}"
        line(what, spread([1000 * s for s in timed[name]], "ms"), f"{setting.rounds} rounds")
    n_steps, a_step = recipes["paper"].n_steps, statistics.median(timed["paper"])
    whole, what = a_step * n_steps, f"recipe paper at {setting.size}"
    line(f"{what}, {n_steps:,} steps at that rate", f"{whole:,.0f} s", "")
    for beta in setting.betas:
        seeds = range(setting.reference_seeds)
        configs = [setting.paper(beta=beta, seed=seed) for seed in seeds]
        curves = pd.concat([elbo_history(setting.fit(cohort, config)) for config in configs])
        rows.append(curves.assign(recipe="the paper's", seconds=curves["step"] * a_step))
        wanted = curves.loc[curves["step"] == n_steps, "elbo"].mean()
        line(f"{what}, β = {beta:g}: ELBO_β to reach", f"{wanted:.1f} nats", f"{len(seeds)} seeds")
        for length in setting.tried:
            ends = setting.ends(cohort, setting.fast(beta=beta, steps=length), setting.seeds)
            grown = isinstance(setting.fast(steps=length).steps, tuple)  # small steps are quicker
            by_steps = ends["step"] * (np.nan if grown else statistics.median(timed["fast"]))
            rows.append(ends.assign(recipe="ours", seconds_by_steps=by_steps))
            name = f"recipe fast of {ends['steps'].iloc[0]}, β = {beta:g}"
            reached, faster = (ends["elbo"] >= wanted).sum(), whole / ends["seconds"].median()
            figure = f"{summary(ends)}; {reached} of {len(ends)} reach it; {faster:.3g} × by whole "
            figure += "fits' seconds"
            figure += "" if grown else f", {whole / by_steps.iloc[0]:.3g} × by timed steps"
            line(name, figure, f"{setting.seeds} seeds")
    setting.keep("training", "race", pd.concat(rows))


def ingredients(setting: Setting):
    """The fast recipe, and it without each ingredient, in as many steps."""
    cohort, rows, length = setting.cohort(), [], setting.tried[-2:][0]
    changes = WITHOUT
    if isinstance(setting.fast(steps=length).steps, tuple):  # the others are asked at 80 × 112
        changes = {"everything in": {}}
        changes |= {"without growth": {"steps": setting.fast(steps=length).n_steps}}
    for name, change in changes.items():
        base = replace(setting.fast(steps=length), **change)
        ends = setting.ends(cohort, base, setting.seeds)
        rows.append(ends.assign(recipe=name).drop(columns="seconds"))  # fits beside one another
        line(name, summary(ends), f"{setting.seeds} seeds")
    setting.keep("training", "ingredients", pd.concat(rows))


def headline(setting: Setting):
    """VAEs of each β and PCA: what they explain, and how well codes tell the planted factors."""
    cohort = setting.cohort()
    factors, split = known_factors(cohort), cohort.metadata["split"]
    parts = [(cohort.split(part), split == part) for part in ("train", "validation")]
    truth = [factors[of].to_numpy() for _, of in parts]
    fits = product(setting.betas, range(setting.seeds))
    configs = [setting.fast(beta=beta, seed=seed) for beta, seed in fits]
    rows = []
    for config in (PCAConfig(8), *configs):
        run = setting.fit(cohort, config)
        seen, new = (run.model.encode(brains.images) for brains, _ in parts)
        found = linear_recovery(seen, truth[0], new, truth[1])
        of_fit = {"explained": run.history[-1]["explained_variance"]}
        if isinstance(config, BetaVAEConfig):
            of_fit = elbo_history(run).iloc[-1].to_dict()
        rows.append(of_fit | {"recipe": config.label} | dict(zip(factors, found, strict=True)))
        least = f"{factors.columns[found.argmin()]}, R² {found.min():.2f}"
        line(f"{config.label}, seed {of_fit.get('seed')}", f"{of_fit['explained']:.3f}; {least}")
    setting.keep("headline", "headline", pd.DataFrame(rows))


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


def summary(ends: pd.DataFrame) -> str:
    """The ends of a configuration's fits over seeds."""
    explained, seconds = interval(ends["explained"]), spread(ends["seconds"].tolist(), "s")
    return f"{interval(ends['elbo'])} nats, explained {explained}, {seconds}"


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
# Hours, so when they are asked for.
LONG = {"ingredients": ingredients, "headline": headline, "alive": alive}
SMALL = {"shape": (40, 56), "brains": 100, "seeds": 1, "reference_seeds": 1, "timed": (2, 12)}
SMALL |= {"reference_steps": 20, "lengths": (20,), "rounds": 1, "together": (1, 2)}


def main():
    parser = options(__doc__, "the same in a minute, on two cores")
    parser.add_argument("--shape", type=int, nargs=2, help="320 448 on a GPU, else 80 112")
    parser.add_argument("--betas", type=float, nargs="+", default=[3.0])
    parser.add_argument("--reference-seeds", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="write into results/measured")
    parser.add_argument("--only", nargs="+", choices=PARTS | LONG, default=list(PARTS))
    given = parser.parse_args()
    device = pick_device(given.device)
    is_gpu = device.type == "cuda"
    folder = ROOT / "_build/reach" / ("small" if given.small else "full")
    folder.mkdir(parents=True, exist_ok=True)
    shape = tuple(given.shape or (PAPER_SHAPE if is_gpu else (80, 112)))
    timed = (200, 1200) if is_gpu else (50, 250)  # numbers of steps between which a slope is taken
    asked = {"shape": shape, "betas": tuple(given.betas), "timed": timed}
    asked |= {"reference_seeds": given.reference_seeds, "kept": given.keep and not given.small}
    asked |= SMALL if given.small else {}
    setting = Setting(given.device, folder, **asked)
    heading("Training", device)
    for name in given.only:
        with part(name):
            in_own_process((PARTS | LONG)[name], setting)


if __name__ == "__main__":
    main()
