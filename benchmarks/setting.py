"""What a run of the training benchmarks is made of."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainvae_core.models.config import FAST_STAGES, BetaVAEConfig, paper_config
from brainvae_core.models.vae import PAPER_SHAPE

ROOT = Path(__file__).parent.parent
# What the fast recipe is tried with at each size, steps or stages; the last is the recipe.
LENGTHS = {
    (40, 56): (500, 1000),
    (80, 112): (600, 800, 1000, 1500),
    (160, 224): ("80x112: 800, 160x224: 400", "80x112: 800, 160x224: 800"),
    PAPER_SHAPE: ("80x112: 500, 160x224: 200, 320x448: 400", FAST_STAGES),
}


@dataclass(frozen=True)
class Setting:
    """What a run of the benchmark is made of."""

    device: str
    folder: Path  # the cohort, the runs, and what one part tells another
    shape: tuple[int, int] = PAPER_SHAPE
    brains: int = 1_723
    betas: tuple[float, ...] = (3.0,)
    seeds: int = 5
    reference_seeds: int = 1
    reference_steps: int = 10_000
    lengths: tuple = ()  # of the fast recipe; those of the size where there are none
    timed: tuple[int, int] = (200, 1200)  # numbers of steps between which a slope is taken
    rounds: int = 5
    together: tuple[int, ...] = (1, 2, 4, 8, 16)
    peers_python: str = sys.executable

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

    def noise_images(self) -> np.ndarray:
        """Images for what does not depend on them: how long a step takes."""
        return np.random.default_rng(0).random((1280, *self.shape), dtype=np.float32)

    def cohort(self):
        """The simulated cohort: on the CCF slice where its files are at hand, else on the drawn."""
        from brainvae_core.cohorts import ccf_atlas, drawn_atlas, open_cohort, simulate

        data = os.environ.get("BRAINVAE_DATA")
        atlas = ccf_atlas(data) if data else drawn_atlas()
        path = self.folder / f"{'ccf' if data else 'drawn'}-{self.brains}-{self.shape[0]}"
        if not path.exists():
            whole = simulate(self.brains, atlas, seed=0)
            (whole if self.shape == PAPER_SHAPE else whole.resampled(self.shape)).save(path)
        return open_cohort(path)

    @property
    def size(self) -> str:
        return f"{self.shape[0]} × {self.shape[1]}"
