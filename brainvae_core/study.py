"""What is fitted for a profile: stages, each a set of configurations on a cohort.

``python -m brainvae_core.study demo`` makes a profile's cohort and fits every model of it ahead of
the notebooks, which then load them; ``--print`` counts what there is and fits nothing.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from brainvae_core.cohorts import Cohort
from brainvae_core.models import (
    BetaVAEConfig,
    FactorAnalysisConfig,
    MeanImageConfig,
    NearestBrainConfig,
    NMFConfig,
    OutOfDeviceMemory,
    PCAConfig,
    PPCAConfig,
    Run,
    fit_all,
    keep_runs,
    run_name,
)
from brainvae_core.prepare import (
    freeform_cohort,
    planted_cohort,
    prepare_cohort,
    released_run,
    varied_cohorts,
)
from brainvae_core.settings import Settings, read_profile

OBJECTIVES = {"capacity": "capacity VAE", "total_correlation": "β-TCVAE", "mmd": "MMD-VAE"}


@dataclass(frozen=True)
class Study:
    """Every β at every L with every seed, otherwise as ``base`` says; and PCA at every L.

    ``configs`` are PCA at every L, then the β-VAEs row by row (L), β by β, seed by seed. A value
    that occurs twice or is out of range, or an empty axis, is a ValueError.
    """

    base: BetaVAEConfig
    betas: Sequence[float]
    latent_dims: Sequence[int]
    seeds: Sequence[int] = (0,)
    configs: tuple = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        for name, kind in (("betas", float), ("latent_dims", int), ("seeds", int)):
            values = tuple(map(kind, getattr(self, name)))
            if len(values) == 0 or len(set(values)) < len(values):
                raise ValueError(f"{name}={list(values)} must list at least one value, each once")
            object.__setattr__(self, name, values)
        points = product(self.latent_dims, self.betas, self.seeds)
        vaes = (replace(self.base, latent_dim=n, beta=b, seed=s) for n, b, s in points)
        object.__setattr__(self, "configs", (*map(PCAConfig, self.latent_dims), *vaes))

    def __len__(self):
        """How many β-VAEs the product has."""
        return math.prod(self.shape)

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many values of β, numbers of latents and seeds."""
        return len(self.betas), len(self.latent_dims), len(self.seeds)

    def __str__(self):
        axes = (("L", self.latent_dims), ("β", self.betas), ("seed", self.seeds))
        axes = " × ".join(f"{len(v)} {n} ({', '.join(f'{x:g}' for x in v)})" for n, v in axes)
        return f"{axes} = {len(self)} β-VAEs, and {len(self.latent_dims)} PCAs"

    def row(self, latent_dim: int) -> Study:
        """Every β and seed at one L."""
        if latent_dim not in self.latent_dims:
            rows = ", ".join(map(str, self.latent_dims))
            raise ValueError(f"latent_dim={latent_dim} is no row of this grid; it has {rows}")
        return replace(self, latent_dims=(latent_dim,))


def grid(p: Settings) -> Study:
    """The profile's β × L × seed grid, with the VAE and the profile's own model in it."""
    betas = sorted({1.0, p.model.beta, *p.grid.betas})
    latent_dims = sorted({p.model.latent_dim, *p.grid.latent_dims})
    return Study(replace(p.model, steps=p.grid.steps), betas, latent_dims, p.grid.seeds)


def curve(p: Settings) -> Study:
    """VAE and β-VAE at the numbers of latents of Figs 2C and 2D, otherwise as the grid."""
    betas = sorted({1.0, p.model.beta})
    latent_dims = sorted({p.model.latent_dim, *p.evaluation.curve_latent_dims})
    return Study(grid(p).base, betas, latent_dims, p.grid.seeds)


def rows(p: Settings) -> tuple[int, ...]:
    """Every L that anything of the grid's size is fitted at."""
    return tuple(sorted({*grid(p).latent_dims, *curve(p).latent_dims}))


def row(p: Settings, latent_dim: int) -> Study:
    """The row of one L: of the grid, or of the curve alone."""
    if latent_dim not in rows(p):
        there = ", ".join(map(str, rows(p)))
        raise ValueError(f"latent_dim={latent_dim} is no row of this profile; it has {there}")
    return (grid(p) if latent_dim in grid(p).latent_dims else curve(p)).row(latent_dim)


def row_configs(p: Settings, latent_dim: int) -> tuple:
    """All that is fitted at one L, for the grid and for the curve, each once."""
    row(p, latent_dim)
    of_both = (*grid(p).configs, *curve(p).configs)
    return tuple(c for c in dict.fromkeys(of_both) if c.latent_dim == latent_dim)


def _seeds(p):
    """The grid's, and the evaluation's where the grid has fewer: a number has an interval."""
    return tuple(dict.fromkeys((*p.grid.seeds, *p.evaluation.seeds)))


def _fits(config, seeds, **changes):
    return [replace(config, seed=seed, **changes) for seed in seeds]


def compared_configs(p: Settings) -> dict[str, BetaVAEConfig | PCAConfig]:
    """The three models of the paper at the profile's L: PCA, VAE (β = 1) and β-VAE.

    The β-VAE is the authors' own where `make authors` left it beside the profile's brains.
    """
    vae, released = replace(p.model, beta=1.0), released_run(p)
    beta_vae = p.model if released is None else released.config
    return {"PCA": PCAConfig(p.model.latent_dim), "VAE": vae, "β-VAE": beta_vae}


def _evaluated(p):
    base, n = replace(p.model, steps=p.evaluation.steps), p.model.latent_dim
    return {
        "PCA": [PCAConfig(n)],
        "VAE": _fits(base, p.evaluation.seeds, beta=1.0),
        "β-VAE": _fits(base, p.evaluation.seeds),
        "probabilistic PCA": [PPCAConfig(n)],
        "factor analysis": [FactorAnalysisConfig(n)],
        "NMF": [NMFConfig(n)],
        "nearest brain": [NearestBrainConfig()],
        "mean image": [MeanImageConfig()],
    }


def _read(p):
    return {name: _evaluated(p)[name] for name in ("PCA", "VAE", "β-VAE")}


def _grid(p):
    configs = grid(p).configs
    return {
        "PCA": [c for c in configs if type(c) is PCAConfig],
        "β-VAE": [c for c in configs if type(c) is BetaVAEConfig],
    }


def _curve(p):
    betas = {"PCA": None, "VAE": 1.0, "β-VAE": p.model.beta}
    return {
        name: [c for c in curve(p).configs if getattr(c, "beta", None) == beta]
        for name, beta in betas.items()
    }


def _families(p):
    """PCA, VAE, β-VAE and every other objective of the profile, several fits each."""
    base, named = grid(p).base, {OBJECTIVES.get(o, o): o for o in p.fields.objectives}
    return {
        "PCA": [PCAConfig(p.model.latent_dim)],
        "VAE": _fits(base, _seeds(p), beta=1.0),
        "β-VAE": _fits(base, _seeds(p)),
        **{name: _fits(base, _seeds(p), objective=o) for name, o in named.items()},
    }


def _through(p):
    """The row and the column of the grid that meet in the profile's model."""
    n, beta = p.model.latent_dim, p.model.beta
    met = [c for c in grid(p).configs if c.latent_dim == n or getattr(c, "beta", beta) == beta]
    return {"of the grid": met}


def _two(models):
    """PCA and β-VAE of a stage's models."""
    return lambda p: {name: models(p)[name] for name in ("PCA", "β-VAE")}


@dataclass(frozen=True)
class Stage:
    """Configurations, by model, and the cohorts that all of them are fitted to."""

    models: Callable[[Settings], dict[str, list]]
    cohorts: Callable[[Settings], Iterable[Cohort]]

    def configs(self, p: Settings, latent_dim: int | None = None) -> tuple:
        """Every configuration once, or those of one L."""
        found = dict.fromkeys(c for of_model in self.models(p).values() for c in of_model)
        return tuple(c for c in found if latent_dim in (None, getattr(c, "latent_dim", None)))


def _whole(p):
    return [prepare_cohort(p)]


def _at(size, made=prepare_cohort):
    """The cohort at the size of a section of the settings."""
    return lambda p: [made(p).resampled(getattr(p, size).shape)]


def _every_varied(p):
    (coarse,) = _at("grid", planted_cohort)(p)
    return [c for of_value in varied_cohorts(p, coarse).values() for c in of_value.values()]


# The last five are what the chapters on the latents read: whatever brains a profile has, the truth
# is asked of simulated ones, on its atlas and at its sizes.
STAGES = {
    "cohort": Stage(lambda p: {}, _whole),
    "compared": Stage(lambda p: {k: [c] for k, c in compared_configs(p).items()}, _whole),
    "evaluated": Stage(_evaluated, _at("evaluation")),
    "read": Stage(_read, _at("evaluation")),  # of these whose latents are read
    "grid": Stage(_grid, _at("grid")),
    "curve": Stage(_curve, _at("grid")),
    "families": Stage(_families, _at("grid")),
    # Chapter 10 reads these as "evaluated" of its planted cohort.
    "planted": Stage(_evaluated, _at("evaluation", planted_cohort)),
    "freeform": Stage(_two(_evaluated), lambda p: [freeform_cohort(p)]),
    "through": Stage(_through, _at("grid", planted_cohort)),
    "varied": Stage(_two(_families), _every_varied),
}


def fitted(p: Settings, stage: str, cohort: Cohort) -> list[tuple[dict, Run]]:
    """The runs of a stage on one of its cohorts, each with its labels, fitted where missing.

    Labels are ``model`` and, of those that have them, ``beta``, ``latent_dim`` and ``seed``: the
    columns of a long table. Model by model; a run of two models is there twice. Fits that failed
    are left out; a ValueError names a model of which none succeeded. Of "evaluated" and "read", on
    the cohort of the authors' model, that one is the β-VAE, and those fitted here are
    "β-VAE, fitted here".
    """
    wanted = _by_model(p, stage, cohort)
    runs = _fitted(p, list(dict.fromkeys(c for of in wanted.values() for c in of)), cohort)
    found = [(labels(k, r.config), r) for k, of in wanted.items() for r in runs if r.config in of]
    if missing := [name for name in wanted if name not in {of["model"] for of, _ in found}]:
        raise ValueError(f"no fit of {', '.join(missing)} succeeded; see above for why")
    return found


def labelled(p: Settings, stage: str, cohort: Cohort) -> list[tuple[dict, object]]:
    """As `fitted`, the configurations alone: nothing is fitted or loaded."""
    wanted = _by_model(p, stage, cohort)
    return [(labels(name, config), config) for name, of in wanted.items() for config in of]


def _by_model(p, stage, cohort):
    wanted, released = STAGES[stage].models(p), released_run(p)
    on_theirs = released and released.folder.name == run_name(released.config, cohort.fingerprint)
    if stage in ("evaluated", "read") and on_theirs:
        wanted |= {"β-VAE": [released.config], "β-VAE, fitted here": wanted["β-VAE"]}
    return wanted


def labels(model: str, config) -> dict:
    """What rows of a long table say of a fit: its model, β, number of latents and seed."""
    names = ("beta", "latent_dim", "seed")
    return {"model": model} | {n: getattr(config, n) for n in names if hasattr(config, n)}


def _fitted(p, configs, cohort):
    places = p.places
    return fit_all(cohort, configs, places.runs, places.device, places.together, halve=True)


def fitted_models(p: Settings, stage: str, cohort: Cohort) -> dict[str, list]:
    """As `fitted`, the models alone, by name."""
    found = {}
    for of, run in fitted(p, stage, cohort):
        found.setdefault(of["model"], []).append(run.model)
    return found


def varied(p: Settings, cohort: Cohort) -> list[tuple[dict, Run]]:
    """Fits to planted cohorts as one thing varies, each with its labels.

    Labels are those of `fitted`, with what ``varies`` (``"beta"``, ``"latent_dim"``, ``"brains"``,
    ``"share"``) and its value ``at``; ``cohort`` is `planted_cohort`'s, at the size of the grid.
    PCA is the same at every β. Values without a fit are left out.
    """
    n, beta, found = p.model.latent_dim, p.model.beta, []
    through = [
        (of | {"model": "β-VAE" if "beta" in of else "PCA"}, run)
        for of, run in fitted(p, "through", cohort)
    ]
    for of, run in through:
        if of["latent_dim"] == n:
            betas = [of["beta"]] if "beta" in of else p.grid.betas
            found += [(of | {"varies": "beta", "at": x}, run) for x in betas]
    for of, run in through:
        if of.get("beta", beta) == beta:
            found.append((of | {"varies": "latent_dim", "at": of["latent_dim"]}, run))
    for what, of_value in varied_cohorts(p, cohort).items():
        for x, other in of_value.items():
            more = {"varies": what, "at": x}
            found += [(of | more, run) for of, run in fitted(p, "varied", other)]
    return found


def counted(configs: Iterable, cohort: Cohort, runs: str | Path) -> str:
    """How many of some configurations are fitted, failed, begun and missing, in a line."""
    folders = [Path(runs) / run_name(config, cohort.fingerprint) for config in configs]
    return ", ".join(f"{n} {what}" for what, n in Counter(map(_state, folders)).items())


def _state(folder):
    if folder.exists():
        return "fitted" if (folder / "weights.safetensors").exists() else "failed"
    return "begun" if folder.with_name(f".{folder.name}").exists() else "missing"


def main():
    """Make a profile's cohort and fit its models, stage by stage."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("profile", help="its name in notebooks/params, or a YAML file")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--latent-dim", type=int, help="one L of these stages")
    parser.add_argument(
        "--keep", action="store_true", help="copy the VAEs to results/, in half precision"
    )
    parser.add_argument("--print", action="store_true", help="count what is fitted, fit nothing")
    options = parser.parse_args()
    try:
        p = read_profile(options.profile, enter=True)
        if options.latent_dim:
            row(p, options.latent_dim)
        for name in options.only:
            stage = STAGES[name]
            configs = stage.configs(p, options.latent_dim)
            told = ", ".join(f"{k} {len(of_model)}" for k, of_model in stage.models(p).items())
            print(f"── {name}: {told}", flush=True)
            for cohort in stage.cohorts(p):
                if options.latent_dim and not options.print:
                    _fitted(p, configs, cohort)
                elif configs and not options.print:
                    runs = [run for _, run in fitted(p, name, cohort)]
                    if options.keep:
                        vaes = [run for run in runs if type(run.config) is BetaVAEConfig]
                        keep_runs(cohort, vaes, Path(p.places.results) / p.profile)
                told = counted(configs, cohort, p.places.runs) or "made"
                print(f"{cohort}: {told}", flush=True)
    except (ValueError, OSError, OutOfDeviceMemory) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        print("stopped; what is fitted stays, and the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"cohort in {p.places.data}, models in {p.places.runs}")


if __name__ == "__main__":
    main()
