"""What was planted in simulated brains, and how much of it the latents of a fit have."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from brainvae_core.cohorts import Cohort, PlantedModel, Preprocessing, clean_part
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.cohorts.preprocess import comparable_sections
from brainvae_core.fields import PlantedFields, Recovery, planted_fields, recover, recover_at_random
from brainvae_core.metrics import (
    Estimate,
    active_latents,
    estimate,
    explained_variance_per_brain,
    linear_recovery,
    scores_table,
)
from brainvae_core.models import LinearGaussian

FACTOR_RANGE = 1.7  # standard deviations: as far as a uniform factor goes
STEPS = 15  # of a factor, and of c
AXES = ("latents", "random axes", "latents less random axes", "one random set less the others")
ANSWERS = {
    "R² of the best latent": "best_r2",
    "has a latent": "has_latent",
    "receptive field right": "receptive_right",
    "projective field right": "projective_right",
    "recovered": "recovered",
}


class AsAdjusted:
    """What made a cohort, its sections brought to the cohort's brightness: latents are factors."""

    def __init__(self, cohort: Cohort):
        self.cohort, self.names = cohort, tuple(cohort.factors)
        self.simulator = PlantedModel.of(self.names, cohort.atlas)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Sections of factors (n, n_factors), without texture and noise, (n, height, width)."""
        z = pd.DataFrame(np.asarray(z), columns=list(self.names))
        sections = self.simulator.decode(z.reindex(columns=self.simulator.names, fill_value=0))
        return comparable_sections(sections, self.cohort.atlas, Preprocessing.of(self.cohort))


class TruthTest:
    """What every model of a simulated cohort is asked: with which brains, regions and steps.

    Regions are taken one hemisphere at a time, for a factor may act on one side.
    """

    def __init__(self, p, cohort: Cohort):
        self.p, self.cohort = p, cohort
        self.test, self.train = clean_part(cohort), clean_part(cohort, "train")
        self.names, self.factors = list(cohort.factors), self.test.factors.to_numpy()
        regions = cohort.atlas.regions(p.fields.region_share)
        halves = [cohort.atlas.roi_masks(regions, side) for side in ("left", "right")]
        self.masks = np.concatenate(halves)
        self.c = np.linspace(-p.fields.c_max, p.fields.c_max, STEPS)

    @cached_property
    def planted(self) -> PlantedFields:
        """Where each factor acts and can be seen."""
        steps = np.linspace(-FACTOR_RANGE, FACTOR_RANGE, STEPS)
        return planted_fields(AsAdjusted(self.cohort), self.test.images, self.masks, steps)

    @cached_property
    def factor_model(self) -> LinearGaussian:
        """The linear model that was told the factors: of it the paper's claims are true."""
        return LinearGaussian.fit_to_factors(self.train.images, self.train.factors.to_numpy())

    def recovered(self, model) -> Recovery:
        """What the model's latents found."""
        return recover(model, *self._inputs(model))

    def rows(self, model) -> pd.DataFrame:
        """A model's answers, a row a score, factor and one of `AXES`.

        These are its latents; random axes of its codes, on average; the first less the second; and
        one set of random axes less the others, which should be nothing.
        """
        found, inputs = self.recovered(model), self._inputs(model)
        at_random = recover_at_random(model, *inputs, self.p.fields.n_rotations)
        pairs = [(model.encode(part.images), part.factors) for part in (self.train, self.test)]
        of_all = linear_recovery(*pairs[0], *pairs[1])  # the same whatever the axes
        answers = {"R² from all latents": [of_all, of_all, 0 * of_all, 0 * of_all]}
        for score, name in ANSWERS.items():
            own = getattr(found, name).astype(float)
            one, *others = (getattr(of, name).astype(float) for of in at_random)
            chance = np.mean([one, *others], axis=0)
            answers[score] = [own, chance, own - chance, one - np.mean(others, axis=0)]
        return scores_table(answers, axes={"axes": AXES}, brains=self.names)

    def _inputs(self, model):
        active = active_latents(model.encode(self.test.images))
        inputs = self.test.images, self.factors, self.planted, self.masks, self.c
        return *inputs, active, self.p.fields.n_read


def explained_by_factors(cohort: Cohort, *shapes: tuple[int, int]) -> list[Estimate]:
    """How much of test brains their own factors explain, rendered without texture and noise.

    A number for each size at which brains are compared; NaN where they were not simulated. A model
    that explains more reproduces texture, noise or artefacts.
    """
    if cohort.factors is None:
        return [Estimate(np.nan, np.nan, np.nan, len(cohort), 0) for _ in shapes]
    test, mean = cohort.split("test"), cohort.split("train").images.mean(axis=0, keepdims=True)
    brains, found = (test.images, AsAdjusted(cohort).decode(test.factors), mean), []
    for shape in shapes:
        seen, rendered, usual = (block_mean(x, cohort.atlas.shape[0] // shape[0]) for x in brains)
        found.append(estimate(explained_variance_per_brain(seen, rendered, usual[0])[None]))
    return found


def recovered(p, cohort):
    """What latents have of the factors of a simulated cohort, and what random axes have."""
    test = TruthTest(p, cohort)
    return lambda run: test.rows(run.model)
