"""One profile names a whole run of the road: cohort, model, grid, fields.

A notebook's cell tagged ``parameters`` holds these names as literals; papermill writes a profile's
YAML and ``-p`` over them; `read_parameters` turns what is left into one frozen `Parameters`.
``python -m brainvae_core.profile params/demo.yaml`` makes the cohort and fits every model of a
profile ahead of the notebooks, which then load them.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import os
import types
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import yaml

from brainvae_core import cohorts
from brainvae_core.models import (
    BetaVAEConfig,
    FailedRun,
    OutOfDeviceMemory,
    PCAConfig,
    Study,
    fit_all,
)
from brainvae_core.models.study import counted

SIMULATED_FROM = ("artefacts", "atlas", "cohort", "drawn", "drawn_regions", "simulated")
REGISTERED_FROM = ("acquired", "artefacts", "atlas", "cohort", "outliers", "own", "preprocess")
REGISTERED_FROM += ("sections", "volume_headers", "volumes")
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
    likelihood: str = "gaussian"
    sigma: float = 0.05  # grey values
    steps: int = 1100
    batch_size: int = 16
    learning_rate: float = 1e-3
    lr_warmup: float = 0.05  # share of the steps
    lr_cosine: bool = True
    kl_warmup: float = 0.5  # share of the steps
    initialisation: str = "data"
    precision: str = "float32"  # or "tf32", "bfloat16"
    validate_every: int = 100  # steps
    seed: int = 0
    # grid
    grid_betas: tuple[float, ...] = (1.0, 3.0, 10.0)
    grid_latent_dims: tuple[int, ...] = (2, 4, 6, 8, 12, 16)
    grid_seeds: tuple[int, ...] = (0, 1, 2)
    shard_latent_dim: int = 8  # the row of the grid that chapter 6 fits
    grid_height: int = 40
    grid_width: int = 56
    grid_steps: int = 500
    # evaluation and fields
    fd_dim: int = 16  # components of the Fréchet distance's basis
    rois: tuple[str, ...] = ("SSp", "HPF", "STR", "TH", "RSP", "HY")
    n_weights: int = 5  # brightness weights a region
    n_blobs: int = 100  # random regions of the null
    c_max: float = 7.0  # prior standard deviations
    c_step: float = 0.1
    new_brain: str = "simulated"  # or the file of a registered section
    # places
    data: str = "../data"
    runs: str = "../runs"
    device: str = "auto"
    together: int = 2  # models of the grid trained at once

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            object.__setattr__(self, field.name, _as_declared(field.name, field.default, value))

    @property
    def betas(self) -> tuple[float, ...]:
        """The grid's values of β, with the model's own and the VAE's among them."""
        return tuple(sorted({1.0, self.beta, *self.grid_betas}))

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


def open_atlas(p: Parameters) -> cohorts.Atlas:
    """The drawn atlas, or the CCF slice from a folder."""
    if p.atlas == "drawn":
        if p.plane != 286 or p.brains != "simulated":
            raise ValueError(
                f"brains={p.brains}, plane={p.plane}: the drawn atlas is for simulated brains at "
                "plane 286; set atlas to a folder with the CCF's files (`make acquire` leaves one)"
            )
        return cohorts.drawn_atlas()
    return cohorts.ccf_atlas(_expanded(p.atlas), p.plane)


def prepare_cohort(p: Parameters) -> cohorts.Cohort:
    """The profile's cohort: read from ``data`` where it was made before, else made and kept there.

    Its name carries a hash of what it was made from, the code that made it included.

    Raises
    ------
    FileNotFoundError
        There is no folder of brains, or no atlas.
    ValueError
        The brains cannot be used; the message says which and why.
    """
    made_from = [_atlas_files(p.atlas), p.plane, p.height, p.width, p.cohort_seed]
    if p.brains == "simulated":
        name, make, modules = f"simulated-{p.n_brains}", _simulated, SIMULATED_FROM
        made_from += [p.n_brains, p.artefact_share]
    else:
        folder = Path(_expanded(p.brains))
        name, make, modules = folder.name, _registered, REGISTERED_FROM
        made_from += [p.orientation, p.clip_pixels, p.drop_brains, p.outlier_limit]
        made_from += _contents(folder)
    digest = hashlib.sha256(repr(made_from).encode())
    for module in modules:
        digest.update((Path(cohorts.__file__).parent / f"{module}.py").read_bytes())
    path = Path(p.data) / f"{name}-{digest.hexdigest()[:8]}.zarr"
    if not path.exists():
        made = make(p)
        try:
            made.save(path)
        except OSError:
            if not path.exists():  # another notebook may have made it meanwhile
                raise
    return cohorts.open_cohort(path)


def new_section(p: Parameters, cohort: cohorts.Cohort) -> np.ndarray:
    """A brain that is not of the cohort, on its grid and grey values, (height, width)."""
    if p.new_brain == "simulated":
        other = cohorts.simulate(2, open_atlas(p), cohort.atlas.shape, 0, p.cohort_seed + 1)
        section = other.images[0]
    else:
        section = cohorts.read_section(_expanded(p.new_brain), p.plane, p.orientation)
    return cohorts.comparable_section(section, cohort.atlas, cohorts.Preprocessing.of(cohort))


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


def grid_cohort(p: Parameters, cohort: cohorts.Cohort) -> cohorts.Cohort:
    """The profile's cohort at the size of its grid."""
    return cohort.resampled((p.grid_height, p.grid_width))


def _simulated(p):
    shape = (p.height, p.width)
    return cohorts.simulate(p.n_brains, open_atlas(p), shape, p.artefact_share, p.cohort_seed)


def _registered(p):
    """The cohort of a folder of sections: one that `acquire` left, or one's own brains."""
    folder = Path(_expanded(p.brains))
    if _is_acquired(folder):
        sections, metadata = cohorts.read_acquired(folder, p.plane)
        ledger = cohorts.read_ledger(folder)
        refused = {i: cohorts.cause(why) for i, why in ledger.refused.items()}
        refused |= dict.fromkeys(ledger.not_tried, "not tried yet; run make acquire again")
    else:
        sections, metadata, refused = cohorts.read_sections(folder, p.plane, p.orientation)
    return cohorts.preprocess(
        sections,
        metadata,
        open_atlas(p),
        shape=(p.height, p.width),
        seed=p.cohort_seed,
        clip_pixels=p.clip_pixels,
        drop_brains=p.drop_brains,
        outlier_limit=p.outlier_limit,
        refused=refused,
        name=folder.name,
    )


def _contents(folder):
    """What tells whether a folder of brains has changed, without reading the brains."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder of brains at {folder}; `make acquire` leaves the Allen cohort in data/allen"
        )
    if _is_acquired(folder):  # the manifest holds every section's sha256
        names = ("experiments.csv", "manifest.jsonl", "refused.csv")
        return [(folder / n).read_bytes() for n in names if (folder / n).exists()]
    return _files(folder, "*")


def _is_acquired(folder):
    return (folder / "experiments.csv").exists()


def _atlas_files(atlas):
    """What tells whether the atlas has changed."""
    if atlas == "drawn":
        return atlas
    folder = Path(_expanded(atlas))
    patterns = ("annotation_25.nrrd", "average_template_25*", "struct*.json")
    return [found for pattern in patterns for found in _files(folder, pattern)]


def _files(folder, pattern):
    """Every such file in a folder or below it, with its size and the time of its last change."""
    files = sorted(f for f in folder.rglob(pattern) if f.is_file())
    return [(str(f.relative_to(folder)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


def _expanded(path: str) -> str:
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise ValueError(
            f"{path} names an environment variable that is not set; set it or give a path"
        )
    return expanded


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
    parts = ("cohort", "compared", "grid", "study")
    parser.add_argument("--only", choices=parts, help="study: print the grid, fit nothing")
    parser.add_argument("--latent-dim", type=int, help="one row of the grid")
    options = parser.parse_args()
    try:
        p = read_profile(options.profile)
        folder = Path(options.profile).resolve().parent
        if folder.name == "params":  # beside the notebooks, whose relative paths it holds
            os.chdir(folder.parent)
        grid = study(p) if options.latent_dim is None else study(p).shard(options.latent_dim)
        if options.only in (None, "grid", "study"):
            print(grid, flush=True)
        cohort = prepare_cohort(p)
        print(cohort, flush=True)
        if options.only in (None, "compared"):
            compared = compared_configs(p).values()
            fitted = fit_all(cohort, compared, p.runs, p.device, p.together, halve=True)
            if len(fitted) < len(compared):
                raise FailedRun("not every model of the comparison could be fitted")
        if options.only in (None, "grid", "study"):
            coarse = grid_cohort(p, cohort)
            if options.only != "study":
                fit_all(coarse, grid.configs, p.runs, p.device, p.together, halve=True)
            print(counted(grid.state(coarse.fingerprint, p.runs)))
    except (ValueError, OSError, FloatingPointError, OutOfDeviceMemory) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"cohort in {p.data}, models in {p.runs}")


if __name__ == "__main__":
    main()
