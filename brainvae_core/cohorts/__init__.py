"""Where sections come from and what makes them comparable."""

from brainvae_core.cohorts.atlas import Atlas, ccf_atlas
from brainvae_core.cohorts.cohort import Cohort, open_cohort
from brainvae_core.cohorts.drawn import drawn_atlas

__all__ = ["Atlas", "Cohort", "ccf_atlas", "drawn_atlas", "open_cohort"]
