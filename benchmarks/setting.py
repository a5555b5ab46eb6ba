"""What a run of the training benchmarks is made of."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from brainvae_core.models.config import BetaVAEConfig
from brainvae_core.models.likelihoods import effective_strength
from brainvae_core.models.recipes import FastRecipe

ROOT = Path(__file__).parent.parent
POINT = {"latent_dim": 8, "beta": 3.0}  # the paper's choice
PAPER_SHAPE = (320, 448)
# Greys under Bernoulli weigh like σ² = 0.2: at 40 × 56, with its 64th of the pixels, β = 3 would be
# 64 times the paper's strength. σ = 0.05 is within a quarter of it.
AT_40_X_56 = {"likelihood": "gaussian", "sigma": 0.05}
SAMPLE = ((4, 1), (8, 3), (20, 20))  # (L, β) at which the grid is held against the paper recipe


@dataclass(frozen=True)
class Setting:
    """What a run of the benchmark is made of."""

    device: str
    folder: Path  # the cohort, and what one part tells another
    shape: tuple[int, int] = PAPER_SHAPE
    instead: dict = field(default_factory=dict)  # of the recipes' own values
    brains: int = 1_723
    batch: int = 64
    steps: tuple[int, int] = (200, 1200)  # between which a slope is taken
    rounds: int = 5
    seeds: int = 3
    together: tuple[int, ...] = (1, 2, 4, 8, 16)
    betas: tuple[int, ...] = tuple(range(1, 21))
    latent_dims: tuple[int, ...] = tuple(range(4, 21))
    sample: tuple = SAMPLE
    reference_steps: tuple[int, ...] = (10_000,)
    fast_steps: tuple[int, ...] = (FastRecipe().steps,)
    peers_python: str = sys.executable

    def recipe(self, recipe, **changes) -> BetaVAEConfig:
        return recipe.config(batch_size=self.batch, **{**POINT, **self.instead, **changes})

    def noise_images(self) -> np.ndarray:
        """Images for what does not depend on them: how long a step takes."""
        rng = np.random.default_rng(0)
        return rng.random((20 * self.batch, *self.shape), dtype=np.float32)

    def cohort(self):
        """The simulated cohort, made by the first part that needs it."""
        from brainvae_core.cohorts import open_cohort, simulate  # a bare GPU image may lack these

        path = self.folder / f"simulated-{self.brains}.zarr"
        if not path.exists():
            simulate(self.brains, shape=self.shape).save(path)
        return open_cohort(path)

    @property
    def strength(self) -> str:
        """What β weighs in these fits, and in the paper's."""
        config, beta = self.recipe(FastRecipe()), POINT["beta"]
        ours = effective_strength(beta, config.likelihood, config.sigma, self.shape)
        papers = effective_strength(beta, "bernoulli", config.sigma, PAPER_SHAPE)
        sigma = "" if config.likelihood == "bernoulli" else f", σ = {config.sigma:g}"
        return (
            f"Likelihood {config.likelihood}{sigma} at {self.size}: β = {beta:g} has an effective "
            f"strength of {ours:.2g}, the paper's {papers:.2g}."
        )

    @property
    def size(self) -> str:
        return f"{self.shape[0]} × {self.shape[1]}"
