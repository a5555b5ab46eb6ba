"""A simulator as a model: its latents are the planted factors themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from brainvae_core.cohorts.atlas import Atlas
from brainvae_core.cohorts.freeform import FREEFORM_FACTORS, rendered_freeform
from brainvae_core.cohorts.simulated import FACTORS, rendered


@dataclass(frozen=True, eq=False)
class PlantedModel:
    """What a model would be that had found every factor: its projective fields are the truth.

    Attributes
    ----------
    names : tuple of str
        The factors, one a latent.
    render : callable
        (DataFrame of factors, Atlas) to images.
    atlas : Atlas
    """

    names: tuple[str, ...]
    render: Callable[[pd.DataFrame, Atlas], np.ndarray]
    atlas: Atlas

    @classmethod
    def anatomical(cls, atlas: Atlas) -> PlantedModel:
        """The simulator behind `simulate`."""
        return cls(FACTORS, rendered, atlas)

    @classmethod
    def freeform(cls, atlas: Atlas) -> PlantedModel:
        """The simulator behind `simulate_freeform`."""
        return cls(FREEFORM_FACTORS, rendered_freeform, atlas)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Sections of factors (n, n_factors), without texture and noise, (n, height, width)."""
        return self.render(pd.DataFrame(np.asarray(z), columns=list(self.names)), self.atlas)
