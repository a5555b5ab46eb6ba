"""What readings of latents say of a fit, as tables: as `scores`, of models read in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from brainvae_core.cohorts import Cohort, PlantedModel, Preprocessing, clean_part
from brainvae_core.cohorts.preprocess import comparable_section
from brainvae_core.fields import PlantedFields, Recovery, planted_fields, recover, recover_at_random
from brainvae_core.fields.truth import QUESTIONS
from brainvae_core.metrics import active_latents, mutual_information_gap, scores_table
from brainvae_core.scores import Table

FACTOR_RANGE = 1.7  # standard deviations: the widest that both simulators draw often
STEPS = 29  # of a factor, and of c
AXES = ("latents", "random axes", "latents less random axes", "one set less the others")


@dataclass(frozen=True, eq=False)
class AsSeen:
    """A simulator whose sections go through what its cohort's went through; latents are factors."""

    simulator: PlantedModel
    cohort: Cohort

    @property
    def names(self) -> tuple[str, ...]:
        """The cohort's factors."""
        return tuple(self.cohort.factors)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Sections of factors (n, n_factors) of one brightness, without texture and noise."""
        z = pd.DataFrame(np.asarray(z), columns=list(self.names))
        sections = self.simulator.decode(z.reindex(columns=self.simulator.names, fill_value=0))
        made, atlas = Preprocessing.of(self.cohort), self.cohort.atlas
        return np.stack([comparable_section(section, atlas, made) for section in sections])


class Asked:
    """What every model of a planted cohort is asked, and with which brains, regions and steps.

    Parameters
    ----------
    p : Settings
    cohort : Cohort
        Of a simulator, with its factors.
    """

    def __init__(self, p, cohort: Cohort):
        self.p, self.cohort = p, cohort
        self.test, self.train = clean_part(cohort), clean_part(cohort, "train")
        self.factors, self.names = self.test.factors.to_numpy(), list(self.test.factors)
        regions = cohort.atlas.regions(p.fields.region_share)
        halves = [cohort.atlas.roi_masks(regions, side) for side in ("left", "right")]
        self.masks = np.concatenate(halves)
        self.c = np.linspace(-p.fields.c_max, p.fields.c_max, STEPS)

    @cached_property
    def planted(self) -> PlantedFields:
        """Where each factor truly acts and can be seen."""
        made = PlantedModel.freeform if "tilt" in self.names else PlantedModel.anatomical
        simulator = AsSeen(made(self.cohort.atlas), self.cohort)
        steps = np.linspace(-FACTOR_RANGE, FACTOR_RANGE, STEPS)
        return planted_fields(simulator, self.test.images, self.masks, steps)

    def recovered(self, model) -> Recovery:
        """What its latents found."""
        return recover(model, *self._of(model))

    def rows(self, model) -> pd.DataFrame:
        """Answers of one model, a row a score, kind of axes and factor.

        ``axes`` are its latents, the mean over random axes, the first less the second, and of one
        set of random axes what it has more than the others.
        """
        latents = self._answers(model, self.recovered(model))
        ...
