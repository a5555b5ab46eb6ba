"""One profile names a whole run of the road: cohort, model, grid, fields.

A notebook's cell tagged ``parameters`` holds these names as literals; papermill writes a profile's
YAML and ``-p`` over them; `read_parameters` turns what is left into one frozen `Parameters`.
``python -m brainvae_core.profile params/demo.yaml`` makes the cohort and fits every model of a
profile ahead of the notebooks, which then load them.
"""

from __future__ import annotations

import argparse
import difflib
import os
import types
from dataclasses import dataclass, fields, replace
from pathlib import Path

import yaml

from brainvae_core.cohorts import Cohort
from brainvae_core.models import (
    BetaVAEConfig,
    FactorAnalysisConfig,
    FailedRun,
    MeanImageConfig,
    NearestBrainConfig,
    NMFConfig,
    OutOfDeviceMemory,
    PCAConfig,
    PPCAConfig,
    Run,
    Study,
    fit_all,
)
from brainvae_core.models.schedule import as_steps
from brainvae_core.models.study import counted
from brainvae_core.prepare import prepare_cohort

STEPS = ("steps", "grid_steps", "eval_steps")  # a number, or stages
NOTEBOOK_NAMES = {"In", "Out", "exit", "quit", "open", "get_ipython"}


@dataclass(frozen=True)
class Parameters:
    """What a notebook can be told. The defaults are the demo's."""

    profile: str = "demo"
    # cohort
    brains: str = "simulated"  # or a folder of acquired, or of one's own registered, brains
    orientation: str = "header"  # of one's own brains: as their files say, or a code such as "asr"
    atlas: str = "drawn"  # "drawn", or a folder with the CCF's files
    plane: int = 286  # AP index at 25 µm
    n_brains: int = 1024  # simulated
    height: int = 160  # pixels of one section
    width: int = 224
    artefact_share: float = 0.15
    cohort_seed: int = 0
    clip_pixels: bool = True  # pixels brighter than the training brains' 99.9 % become white
    drop_brains: bool = False  # outliers are set aside: no fit and no score reads them
    outlier_limit: float = 6.0  # robust standard deviations
    # model
    latent_dim: int = 8
    beta: float = 3.0
    objective: str = "beta"
    capacity: float = 20.0  # nats; of objective "capacity"
    mmd_weight: float = 1000.0  # nats per image; of objective "mmd"
    likelihood: str = "gaussian"  # or "bernoulli", "squares", "gaussian_learned"
    steps: int | tuple = "80x112: 800, 160x224: 500"  # or one number, at the cohort's size
    batch_size: int = 16
    optimiser: str = "muon"  # or "adam"
    learning_rate: float = 4e-3  # of Adam
    adam_beta2: float = 0.99
    muon_rate: float = 0.02
    lr_warmup: float = 0.05  # share of each stage's steps
    lr_cosine: bool = True  # to zero over the last stage
    kl_warmup: float = 0.5  # share of the first stage's steps
    initialisation: str = "data"
    precision: str = "auto"  # or "float32", "tf32", "bfloat16"
    validate_every: int = 100  # steps
    seed: int = 0
    # grid
    grid_betas: tuple[float, ...] = (1.0, 3.0, 10.0)
    grid_latent_dims: tuple[int, ...] = (2, 4, 6, 8, 12, 16)
    grid_seeds: tuple[int, ...] = (0, 1, 2)
    shard_latent_dim: int = 8  # the row of the grid that chapter 5 fits
    grid_height: int = 40
    grid_width: int = 56
    grid_steps: int | tuple = 1000
    # evaluation: several fits of each model, at a size of their own
    eval_height: int = 80
    eval_width: int = 112
    eval_steps: int | tuple = 1500
    eval_seeds: tuple[int, ...] = (0, 1, 2)
    curve_latent_dims: tuple[int, ...] = (2, 4, 6, 8, 12, 16, 30, 100)  # Figs 2C and 2D
    artefact_strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    n_graded: int = 20  # brains with every artefact at every strength
    n_importance: int = 16  # samples of z a brain
    fd_dim: int = 16  # components of the Fréchet distance's basis
    # fields
    rois: tuple[str, ...] = ("SSp", "HPF", "STR", "TH", "RSP", "HY")
    region_share: float = 0.01  # of the brain; smaller regions are no region of their own
    n_weights: int = 5  # brightness weights a region
    n_read: int = 48  # held-out brains of the receptive fields that stand beside chance
    n_blobs: int = 100  # random regions of the null
    c_max: float = 7.0  # prior standard deviations
    c_step: float = 0.005
    objectives: tuple[str, ...] = ("capacity", "total_correlation", "mmd")  # beside the β-VAE's
    varied_brains: tuple[int, ...] = (64, 256)  # training brains of other simulated cohorts
    varied_artefact_shares: tuple[float, ...] = (0.0, 0.4)
    new_brain: str = "simulated"  # or the file of a registered section
    # places
    data: str = "../data"
    runs: str = "../runs"
    device: str = "auto"
    together: int = 2  # models of the grid trained at once

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in STEPS:
                value = as_steps(value, field.name)
            else:
                value = _as_declared(field.name, field.default, value)
            object.__setattr__(self, field.name, value)

    @property
    def betas(self) -> tuple[float, ...]:
        """The grid's values of β, with the model's own and the VAE's among them."""
        return tuple(sorted({1.0, self.beta, *self.grid_betas}))

    @property
    def rows(self) -> tuple[int, ...]:
        """Every L that anything of the grid's size is fitted at."""
        return tuple(sorted({*self.latent_dims, *self.curve_latent_dims}))

    @property
    def latent_dims(self) -> tuple[int, ...]:
        """The grid's values of L, with the model's own among them."""
        return tuple(sorted({self.latent_dim, *self.grid_latent_dims}))

    def model_config(self, **changes) -> BetaVAEConfig:
        """The β-VAE's configuration; ``changes`` such as ``beta=1`` win."""
        names = {f.name for f in fields(BetaVAEConfig)} & {f.name for f in fields(self)}
        return BetaVAEConfig(**{**{n: getattr(self, n) for n in names}, **changes})

    def __str__(self):
        return "\n".join(f"{f.name:17} {getattr(self, f.name)}" for f in fields(self))


def read_parameters(namespace: dict) -> Parameters:
    """The parameters of a notebook from its ``globals()``, before anything else is defined.

    Raises
    ------
    ValueError
        A name that is no parameter (papermill alone only warns of one), or a value of a wrong type.
    """
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_")
        and name not in NOTEBOOK_NAMES
        and not isinstance(value, types.ModuleType | types.FunctionType | type)
    }
    return _parameters(given, "this notebook")


def read_profile(path: str | Path) -> Parameters:
    """The parameters of a profile's YAML file.

    Raises
    ------
    FileNotFoundError
        There is no such profile; the message lists those beside it.
    ValueError
        The file is no YAML or no mapping, or names something that is no parameter.
    """
    path = Path(path)
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise FileNotFoundError(f"no profile {path}; {path.parent} has {there}")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"profile {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"profile {path} must map parameter names to values")
    return _parameters(content, f"profile {path}")


def compared_configs(p: Parameters) -> dict[str, BetaVAEConfig | PCAConfig]:
    """The three models of the paper at the profile's L: PCA, VAE (β = 1) and β-VAE."""
    return {
        "PCA": PCAConfig(p.latent_dim),
        "VAE": p.model_config(beta=1.0),
        "β-VAE": p.model_config(),
    }


def study(p: Parameters) -> Study:
    """The profile's β × L × seed grid."""
    base = p.model_config(steps=p.grid_steps)
    return Study(base, p.betas, p.latent_dims, p.grid_seeds)


def curve(p: Parameters) -> Study:
    """VAE and β-VAE at the numbers of latents of Figs 2C and 2D, otherwise as the grid.

    With the evaluation's seeds too, where the grid has fewer: a point of a figure has an interval.
    """
    seeds = tuple(dict.fromkeys((*p.grid_seeds, *p.eval_seeds)))
    betas = tuple(sorted({1.0, p.beta}))
    latent_dims = tuple(sorted({p.latent_dim, *p.curve_latent_dims}))
    return replace(study(p), betas=betas, latent_dims=latent_dims, seeds=seeds)


def curve_models(p: Parameters, cohort: Cohort) -> dict[str, dict[int, list[Run]]]:
    """The curve's fitted runs, by model and number of latents; a fit that failed is left out.

    Raises
    ------
    ValueError
        No VAE, or no β-VAE, could be fitted.
    """
    runs = fit_all(cohort, curve(p).configs, p.runs, p.device, p.together, halve=True)
    found = {"PCA": {}, "VAE": {}, "β-VAE": {}}
    for run in runs:
        betas = {None: "PCA", p.beta: "β-VAE", 1.0: "VAE"}
        label = betas[getattr(run.config, "beta", None)]
        found[label].setdefault(run.config.latent_dim, []).append(run)
    if p.beta == 1:
        found["β-VAE"] = found["VAE"]
    if missing := [label for label, by_dim in found.items() if not by_dim]:
        raise ValueError(
            f"no {' and no '.join(missing)} of Figs 2C and 2D could be fitted; see above for why"
        )
    return found


def models_at(p: Parameters, latent_dim: int) -> Study:
    """The row of one L: of the grid, or of the curve alone."""
    if latent_dim not in p.rows:
        raise ValueError(
            f"latent_dim={latent_dim} is no row of this profile; it has "
            f"{', '.join(map(str, p.rows))}"
        )
    return (study(p) if latent_dim in p.latent_dims else curve(p)).shard(latent_dim)


def configs_at(p: Parameters, latent_dim: int) -> tuple:
    """All that is fitted at one L, for the grid and for the curve, each once."""
    row = models_at(p, latent_dim).configs
    on_curve = latent_dim in curve(p).latent_dims
    return tuple(dict.fromkeys((*row, *(curve(p).shard(latent_dim).configs if on_curve else ()))))


def grid_cohort(p: Parameters, cohort: Cohort) -> Cohort:
    """The profile's cohort at the size of its grid."""
    return cohort.resampled((p.grid_height, p.grid_width))


def evaluated_configs(p: Parameters) -> dict[str, list]:
    """Every model of the evaluation at the profile's L: one configuration, or one a seed."""
    vaes = {
        name: [p.model_config(beta=beta, steps=p.eval_steps, seed=seed) for seed in p.eval_seeds]
        for name, beta in (("VAE", 1.0), ("β-VAE", p.beta))
    }
    baselines = {
        "PCA": PCAConfig(p.latent_dim),
        "probabilistic PCA": PPCAConfig(p.latent_dim),
        "factor analysis": FactorAnalysisConfig(p.latent_dim),
        "NMF": NMFConfig(p.latent_dim),
        "nearest brain": NearestBrainConfig(),
        "mean image": MeanImageConfig(),
    }
    first, *others = ((name, [config]) for name, config in baselines.items())
    return dict([first, *vaes.items(), *others])


def evaluation_cohort(p: Parameters, cohort: Cohort) -> Cohort:
    """The profile's cohort at the size of its evaluation."""
    return cohort.resampled((p.eval_height, p.eval_width))


def evaluated_models(p: Parameters, cohort: Cohort) -> dict[str, list]:
    """The fitted models of the evaluation, by name; a model whose fit failed has fewer seeds.

    Raises
    ------
    ValueError
        No fit of a model succeeded.
    """
    wanted = evaluated_configs(p)
    configs = dict.fromkeys(config for of_model in wanted.values() for config in of_model)
    runs = fit_all(cohort, configs, p.runs, p.device, p.together, halve=True)
    models = {
        name: [run.model for run in runs if run.config in of_model]
        for name, of_model in wanted.items()
    }
    if missing := [name for name, fitted in models.items() if not fitted]:
        raise ValueError(f"no fit of {', '.join(missing)} succeeded; see above for why")
    return models


def _parameters(given, origin):
    known = [f.name for f in fields(Parameters)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            offer = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise ValueError(f"{origin} was given an unknown parameter {name!r}; {offer}")
    return Parameters(**given)


def _as_declared(name, default, value):
    """The value as the type its default has; a list becomes a tuple, a whole number a float."""
    wanted = type(default)
    if wanted is tuple and isinstance(value, list | tuple):
        return tuple(_as_declared(f"an entry of {name}", default[0], v) for v in value)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"{name}={value!r} must be of type {wanted.__name__}, such as {default!r}")
    return value


def main():
    """Make a profile's cohort and fit its models, or a part of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("profile", help="a YAML file of parameters")
    parts = ("cohort", "compared", "evaluated", "grid", "interpreted", "study")
    parser.add_argument("--only", choices=parts, help="study: print the grid, fit nothing")
    parser.add_argument("--latent-dim", type=int, help="one row of the grid")
    options = parser.parse_args()
    # Here, for it is built on this module.
    from brainvae_core import interpretation

    try:
        p = read_profile(options.profile)
        folder = Path(options.profile).resolve().parent
        if folder.name == "params":  # beside the notebooks, whose relative paths it holds
            os.chdir(folder.parent)
        rows, configs = [study(p), curve(p)], (*study(p).configs, *curve(p).configs)
        if options.latent_dim:
            rows = [models_at(p, options.latent_dim)]
            configs = configs_at(p, options.latent_dim)
        if options.only in (None, "grid", "study"):
            print(*rows, sep="\n", flush=True)
        cohort = prepare_cohort(p)
        print(cohort, flush=True)
        if options.only in (None, "compared"):
            compared = compared_configs(p).values()
            fitted = fit_all(cohort, compared, p.runs, p.device, p.together, halve=True)
            if len(fitted) < len(compared):
                raise FailedRun("not every model of the comparison could be fitted")
        if options.only in (None, "evaluated"):
            evaluated_models(p, evaluation_cohort(p, cohort))
        if options.only in (None, "interpreted"):
            interpretation.fit_interpreted(p)
        if options.only in (None, "grid", "study"):
            coarse = grid_cohort(p, cohort)
            if options.only != "study":
                fit_all(coarse, dict.fromkeys(configs), p.runs, p.device, p.together, halve=True)
            states = [row.state(coarse.fingerprint, p.runs) for row in rows]
            print(counted({name: state for row in states for name, state in row.items()}))
    except (ValueError, OSError, FloatingPointError, OutOfDeviceMemory) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"cohort in {p.data}, models in {p.runs}")


if __name__ == "__main__":
    main()
