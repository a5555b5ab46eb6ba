"""The β × L grid as data: a product that can be printed, counted, divided and resumed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice, product
from pathlib import Path

from brainvae_core.models.baselines import PCAConfig
from brainvae_core.models.config import BetaVAEConfig
from brainvae_core.models.devices import OutOfDeviceMemory, free_memory, pick_device
from brainvae_core.models.images import on_device
from brainvae_core.models.runs import (
    FailedRun,
    Run,
    fit,
    fit_together,
    parts_of,
    run_name,
)
from brainvae_core.models.training import progress_bar


@dataclass(frozen=True)
class Study:
    """Every β at every L with every seed, otherwise as ``base`` says; and PCA at every L.

    Parameters
    ----------
    base : BetaVAEConfig
    betas : sequence of float
    latent_dims, seeds : sequence of int

    Attributes
    ----------
    configs : tuple of BetaVAEConfig and PCAConfig
        PCA at every L, then the β-VAEs row by row (L), β by β, seed by seed.

    Raises
    ------
    ValueError
        A value occurs twice or is out of range, or an axis is empty.
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
        pcas = (PCAConfig(n) for n in self.latent_dims)
        object.__setattr__(self, "configs", (*pcas, *vaes))

    def __len__(self):
        """How many β-VAEs the product has."""
        return len(self.latent_dims) * len(self.betas) * len(self.seeds)

    def __str__(self):
        axes = (("L", self.latent_dims), ("β", self.betas), ("seed", self.seeds))
        counted = " × ".join(f"{len(v)} {n} ({', '.join(f'{x:g}' for x in v)})" for n, v in axes)
        return f"{counted} = {len(self)} β-VAEs, and {len(self.latent_dims)} PCAs"

    def shard(self, latent_dim: int) -> Study:
        """One row: every β and seed at one L."""
        if latent_dim not in self.latent_dims:
            raise ValueError(
                f"latent_dim={latent_dim} is no row of this grid; it has "
                f"{', '.join(map(str, self.latent_dims))}"
            )
        return replace(self, latent_dims=(latent_dim,))

    def state(self, fingerprint: str, runs: str | Path) -> dict[str, str]:
        """What is there of every run: ``"fitted"``, ``"failed"``, ``"begun"`` or ``"missing"``."""
        names = [run_name(config, fingerprint) for config in self.configs]
        return {name: _state(Path(runs), name) for name in names}


def counted(state: dict[str, str]) -> str:
    """A study's state in a line."""
    return ", ".join(f"{n} {what}" for what, n in Counter(state.values()).items())


def fit_all(
    cohort, configs: Iterable, runs: str | Path = "runs", device="auto", together=1, halve=False
) -> list[Run]:
    """Fit what is missing, load the rest.

    Parameters
    ----------
    cohort, runs, device
        As of `fit`.
    configs : iterable of BetaVAEConfig and of baselines' configurations
    together : int
        How many models of one kind are trained at once.
    halve : bool
        Where the device's memory does not hold so many, go on with half as many.

    Returns
    -------
    list of Run
        In the order of ``configs``; runs that failed are told on stderr and left out.
    """
    if together < 1:
        raise ValueError(f"together={together}: at least 1 model is trained at a time")
    configs = list(configs)
    missing = [
        config
        for config in configs
        if _state(Path(runs), run_name(config, cohort.fingerprint)) in ("missing", "begun")
    ]
    if missing:
        parts = on_device(*parts_of(cohort), pick_device(device))  # once, not for every team
        bar = progress_bar(desc="grid", unit="model", total=len(configs))
        bar.update(len(configs) - len(missing))
        for _, group in groupby(missing, key=type):
            waiting = iter(group)
            while team := list(islice(waiting, together)):
                together = _fit_team(cohort, team, runs, device, together, halve, parts)
                bar.update(len(team))
        bar.close()
    fitted = []
    for config in configs:
        try:
            fitted.append(fit(cohort, config, runs, device))
        except FailedRun as error:
            print(error, file=sys.stderr)
    return fitted


def _fit_team(cohort, team, runs, device, together, halve, parts) -> int:
    """Fit a team, in parts where need be; returns how many models go together from here on."""
    while True:
        try:
            for first in range(0, len(team), together):
                fit_together(cohort, team[first : first + together], runs, device, parts)
            return together
        except OutOfDeviceMemory as error:
            if not halve or together == 1:
                raise
            told = str(error)
        # Out of the except: the error's traceback held the models, and with them their memory.
        free_memory()
        together //= 2
        print(f"{told}; going on with {together} at once", file=sys.stderr)


def _state(runs: Path, name: str) -> str:
    if (runs / name).exists():
        return "fitted" if (runs / name / "weights.safetensors").exists() else "failed"
    return "begun" if (runs / f".{name}").exists() else "missing"
