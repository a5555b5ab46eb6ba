"""Where sections come from and what makes them comparable."""

from brainvae_core.cohorts.artefacts import ARTEFACTS
from brainvae_core.cohorts.atlas import Atlas, ccf_atlas
from brainvae_core.cohorts.cohort import Cohort, open_cohort
from brainvae_core.cohorts.drawn import drawn_atlas
from brainvae_core.cohorts.preprocess import clean_brains, comparable_section, open_section
from brainvae_core.cohorts.simulated import FACTORS, simulate

__all__ = [
    "ARTEFACTS",
    "FACTORS",
    "Atlas",
    "Cohort",
    "ccf_atlas",
    "clean_brains",
    "comparable_section",
    "drawn_atlas",
    "open_cohort",
    "open_section",
    "simulate",
]
