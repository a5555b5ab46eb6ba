"""The β × L grid: a study is a list of configurations, fitted one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from brainvae_core.models.runs import PCAConfig, Run, fit
from brainvae_core.models.training import BetaVAEConfig, progress_bar


def grid_configs(
    base: BetaVAEConfig, betas: Sequence[float], latent_dims: Sequence[int]
) -> list[BetaVAEConfig | PCAConfig]:
    """Every β at every L as ``base`` otherwise says, and PCA at every L.

    Raises
    ------
    ValueError
        A value occurs twice, or an axis is empty.
    """
    for name, values in (("betas", betas), ("latent_dims", latent_dims)):
        if len(values) == 0 or len(set(values)) < len(values):
            raise ValueError(f"{name}={list(values)} must list at least one value, each once")
    vaes = [replace(base, beta=float(b), latent_dim=int(n)) for n, b in product(latent_dims, betas)]
    return [*(PCAConfig(int(n)) for n in latent_dims), *vaes]


def fit_all(cohort, configs: Iterable, runs: str | Path, device: str = "auto") -> list[Run]:
    """Fit what is missing, load the rest, in the order of ``configs``."""
    bar = progress_bar(list(configs), desc="grid", unit="model")
    return [fit(cohort, config, runs, device) for config in bar]
