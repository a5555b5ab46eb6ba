"""What is fitted for a profile: stages, each a set of configurations on a cohort.

``python -m brainvae_core.study demo`` makes a profile's cohort and fits every model of it ahead of
the notebooks, which then load them; ``--print`` counts what there is and fits nothing.
"""

from __future__ import annotations

import argparse
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from brainvae_core.cohorts import SIMULATORS, Cohort
from brainvae_core.disk import stoppable
from brainvae_core.models import (
    BetaVAEConfig,
    MeanImageConfig,
    NearestBrainConfig,
    OutOfDeviceMemory,
    PCAConfig,
    Run,
    export_runs,
    fit_all,
    import_runs,
    run_name,
)
from brainvae_core.prepare import prepare_cohort, released_run, truth_cohort
from brainvae_core.settings import Settings, read_profile

WIDE = (30, 100)  # components of PCA with which artefacts come back
KEPT_SEEDS = 5  # of whose fits the weights come with the project, 2 MB each


@dataclass(frozen=True)
class Study:
    """Every β at every L with every seed, otherwise as ``base`` says; and PCA at every L.

    With more latents than ``base`` a fit has ``wide_steps``, if they are given: it comes to its
    plateau later. ``configs`` are PCA at every L, then the β-VAEs row by row (L), β by β, seed by
    seed.
    """

    base: BetaVAEConfig
    betas: Sequence[float]
    latent_dims: Sequence[int]
    seeds: Sequence[int] = (0,)
    wide_steps: int | tuple | None = None
    configs: tuple = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        for name, kind in (("betas", float), ("latent_dims", int), ("seeds", int)):
            values = tuple(map(kind, getattr(self, name)))
            if len(values) == 0 or len(set(values)) < len(values):
                raise ValueError(f"{name}={list(values)} must list at least one value, each once")
            object.__setattr__(self, name, values)
        wide = replace(self.base, steps=self.wide_steps or self.base.steps)
        vaes = (
            replace(wide if n > wide.latent_dim else self.base, latent_dim=n, beta=b, seed=s)
            for n, b, s in product(self.latent_dims, self.betas, self.seeds)
        )
        object.__setattr__(self, "configs", (*map(PCAConfig, self.latent_dims), *vaes))

    def __len__(self):
        """How many β-VAEs the product has."""
        return math.prod(self.shape)

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many values of β, numbers of latents and seeds."""
        return len(self.betas), len(self.latent_dims), len(self.seeds)


def grid(p: Settings) -> Study:
    """The profile's β × L × seed grid, with the VAE and the profile's own model in it."""
    betas = sorted({1.0, p.model.beta, *p.grid.betas})
    latent_dims = sorted({p.model.latent_dim, *p.grid.latent_dims})
    base = replace(p.model, steps=p.grid.steps)
    return Study(base, betas, latent_dims, p.grid.seeds, p.grid.wide_steps)


def curve(p: Settings) -> Study:
    """VAE and β-VAE at the numbers of latents of Figs 2C and 2D, otherwise as the grid."""
    betas = sorted({1.0, p.model.beta})
    latent_dims = sorted({p.model.latent_dim, *p.evaluation.curve_latent_dims})
    # Of a grid with a single seed the evaluation's too: a number has an interval.
    more = p.evaluation.seeds if len(p.grid.seeds) == 1 else ()
    seeds = dict.fromkeys((*p.grid.seeds, *more))
    return replace(grid(p), betas=betas, latent_dims=latent_dims, seeds=tuple(seeds))


def rows(p: Settings) -> tuple[int, ...]:
    """Every L that anything of the grid's size is fitted at."""
    return tuple(sorted({*grid(p).latent_dims, *curve(p).latent_dims}))


def row(p: Settings, latent_dim: int) -> Study:
    """The row of one L: of the grid, or of the curve alone."""
    if latent_dim not in rows(p):
        there = ", ".join(map(str, rows(p)))
        raise ValueError(f"latent_dim={latent_dim} is no row of this profile; it has {there}")
    of = grid(p) if latent_dim in grid(p).latent_dims else curve(p)
    return replace(of, latent_dims=(latent_dim,))


def _fits(config, seeds, **changes):
    return [replace(config, seed=seed, **changes) for seed in seeds]


def compared_configs(p: Settings) -> dict[str, BetaVAEConfig | PCAConfig]:
    """The three models of the paper at the profile's L: PCA, VAE (β = 1) and β-VAE.

    The β-VAE is the authors' own where `make authors` left it beside the profile's brains.
    """
    vae, released = replace(p.model, beta=1.0), released_run(p)
    beta_vae = p.model if released is None else released.config
    return {"PCA": PCAConfig(p.model.latent_dim), "VAE": vae, "β-VAE": beta_vae}


def _compared(p):
    return {name: [config] for name, config in compared_configs(p).items()}


def _wide(p):
    wide = [n for n in WIDE if n in curve(p).latent_dims and n > p.model.latent_dim]
    return {f"PCA, L = {n}": [PCAConfig(n)] for n in wide}


def _pictured(p):
    """One fit of each, with wider PCAs, in the order of Fig. 2B."""
    compared = _compared(p)
    return {"PCA": compared.pop("PCA"), **_wide(p), **compared}


def _read(p):
    """Several fits of each, whose latents are read."""
    return {
        "PCA": [PCAConfig(p.model.latent_dim)],
        "VAE": _fits(p.model, p.evaluation.seeds, beta=1.0),
        "β-VAE": _fits(p.model, p.evaluation.seeds),
    }


def _evaluated(p):
    fits = _read(p)
    return {"PCA": fits.pop("PCA"), **_wide(p), **fits, **_floors(p)}


def _floors(p):
    """What needs no latents."""
    return {"nearest brain": [NearestBrainConfig()], "mean image": [MeanImageConfig()]}


def _row(p):
    """The β-VAEs of the grid at the profile's L."""
    return {"β-VAE": [c for c in row(p, p.model.latent_dim).configs if type(c) is BetaVAEConfig]}


def _grid(p):
    configs, n = grid(p).configs, len(grid(p).latent_dims)
    return {"PCA": [*configs[:n]], "β-VAE": [*configs[n:]]}


def _curve(p):
    """The curve, with the evaluation's fits too at the two L that claims are made of."""
    betas, of = {"PCA": None, "VAE": 1.0, "β-VAE": p.model.beta}, curve(p)
    ends = {p.model.latent_dim, of.latent_dims[-1]}
    more = replace(
        of, latent_dims=sorted(ends), seeds=dict.fromkeys((*of.seeds, *p.evaluation.seeds))
    )
    configs = dict.fromkeys((*of.configs, *more.configs))
    return {
        name: [c for c in configs if getattr(c, "beta", None) == beta]
        for name, beta in betas.items()
    }


def _truth(p):
    """PCA and β-VAEs with at least a latent for every planted factor."""
    at, seeds = [p.fields.truth_latent_dim], p.fields.truth_seeds
    of_pca, *vaes = replace(grid(p), betas=[p.model.beta], latent_dims=at, seeds=seeds).configs
    return {"PCA": [of_pca], "β-VAE": vaes}


@dataclass(frozen=True)
class Stage:
    """Configurations, by model, and the cohort that all of them are fitted to."""

    models: Callable[[Settings], dict[str, list]]
    cohort: Callable[[Settings], Cohort]

    def configs(self, p: Settings, latent_dim: int | None = None) -> tuple:
        """Every configuration once, or those of one L."""
        found = dict.fromkeys(c for of_model in self.models(p).values() for c in of_model)
        return tuple(c for c in found if latent_dim in (None, getattr(c, "latent_dim", None)))


def _small_cohort(p):
    """The cohort at the grid's size."""
    return prepare_cohort(p).resampled(p.grid.shape)


STAGES = {
    "cohort": Stage(lambda p: {}, prepare_cohort),
    "compared": Stage(_compared, prepare_cohort),
    "pictured": Stage(_pictured, prepare_cohort),
    "evaluated": Stage(_evaluated, prepare_cohort),
    "read": Stage(_read, prepare_cohort),
    "grid": Stage(_grid, _small_cohort),
    "curve": Stage(_curve, _small_cohort),
    "floors": Stage(_floors, _small_cohort),
    "row": Stage(_row, _small_cohort),
}
# Whatever brains a profile has, these are of simulated ones on its atlas (chapter 10).
STAGES |= {name: Stage(_truth, lambda p, name=name: truth_cohort(p, name)) for name in SIMULATORS}


def fitted(p: Settings, stage: str, cohort: Cohort) -> list[tuple[dict, Run]]:
    """The runs of a stage on one of its cohorts, each with its labels, fitted where missing.

    Labels are ``model`` and, where it has them, ``beta``, ``latent_dim`` and ``seed``. A run of two
    models is there twice. Fits that failed are left out; a ValueError names a model of which none
    succeeded. Of "evaluated" and "read", on the cohort of the authors' model, that one is the
    β-VAE, and those fitted here are "β-VAE, fitted here".
    """
    wanted = labelled_configs(p, stage, cohort)
    fits = _fitted(p, list(dict.fromkeys(config for _, config in wanted)), cohort)
    runs = {run.config: run for run in fits}
    found = [(labels, runs[config]) for labels, config in wanted if config in runs]
    there = {labels["model"] for labels, _ in found}
    if missing := dict.fromkeys(of["model"] for of, _ in wanted if of["model"] not in there):
        raise ValueError(f"no fit of {', '.join(missing)} succeeded; see above for why")
    return found


def labelled_configs(p: Settings, stage: str, cohort: Cohort) -> list[tuple[dict, object]]:
    """As `fitted`, the configurations alone: nothing is fitted or loaded."""
    wanted, released = STAGES[stage].models(p), released_run(p)
    on_theirs = released and released.folder.name == run_name(released.config, cohort.fingerprint)
    if stage in ("evaluated", "read") and on_theirs:
        wanted |= {"β-VAE": [released.config], "β-VAE, fitted here": wanted["β-VAE"]}
    names = ("beta", "latent_dim", "seed")
    return [
        ({"model": model} | {n: getattr(config, n) for n in names if hasattr(config, n)}, config)
        for model, of in wanted.items()
        for config in of
    ]


def _fitted(p, configs, cohort):
    places = p.places
    return fit_all(cohort, configs, places.runs, places.device, places.together)


def _keep(p, stage, cohort, vaes):
    """Round a stage's models that come with the project into results/, and so among the runs.

    Chapters read the runs, and have to show what is kept.
    """
    folder = Path(p.places.results) / p.profile
    if stage in SIMULATORS:  # one is pictured, of the others a table tells
        kept, folder = vaes[:1], folder.with_name(f"{p.profile}-{stage}")
    else:
        kept = [run for run in vaes if run.config.seed in p.evaluation.seeds[:KEPT_SEEDS]]
    export_runs(cohort, kept, folder)
    for run in kept:
        if "kept" not in run.made:
            shutil.rmtree(run.folder)
    import_runs(cohort, p.places.results, p.places.runs)


def count_runs(configs: Iterable, cohort: Cohort, runs: str | Path) -> str:
    """How many of some configurations are fitted, failed, begun and missing, in a line."""
    folders = [Path(runs) / run_name(config, cohort.fingerprint) for config in configs]
    return ", ".join(f"{n} {what}" for what, n in Counter(map(_state, folders)).items())


def _state(folder):
    if folder.exists():
        return "fitted" if (folder / "weights.safetensors").exists() else "failed"
    return "begun" if folder.with_name(f".{folder.name}").exists() else "missing"


@stoppable("stopped; what is fitted stays, and the same command goes on")
def main():
    """Make a profile's cohort and fit its models, stage by stage."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    add = parser.add_argument
    add("profile", help="its name in notebooks/params, or a YAML file")
    add("--only", nargs="+", choices=STAGES, default=list(STAGES))
    add("--latent-dim", type=int, help="one L of these stages")
    add("--keep", action="store_true", help="move the VAEs to results/, in half precision")
    add("--print", action="store_true", help="count what is fitted, fit nothing")
    options = parser.parse_args()
    if options.keep and options.latent_dim is not None:
        parser.error("--keep moves whole stages; give it without --latent-dim")
    try:
        p = read_profile(options.profile, enter=True)
        if options.latent_dim is not None:
            row(p, options.latent_dim)
        for name in options.only:
            stage = STAGES[name]
            configs = stage.configs(p, options.latent_dim)
            counts = ", ".join(f"{k} {len(of_model)}" for k, of_model in stage.models(p).items())
            print(f"── {name}: {counts}", flush=True)
            cohort = stage.cohort(p)
            if options.latent_dim is not None and not options.print:
                _fitted(p, configs, cohort)
            elif configs and not options.print:
                runs = [run for _, run in fitted(p, name, cohort)]
                if options.keep:
                    vaes = [run for run in runs if type(run.config) is BetaVAEConfig]
                    _keep(p, name, cohort, vaes)
            counts = count_runs(configs, cohort, p.places.runs) or "made"
            print(f"{cohort}: {counts}", flush=True)
    except (ValueError, OSError, OutOfDeviceMemory) as error:
        raise SystemExit(f"error: {error}") from None
    data, runs = (Path(place).resolve() for place in (p.places.data, p.places.runs))
    print(f"cohort in {data}, models in {runs}")


if __name__ == "__main__":
    main()
