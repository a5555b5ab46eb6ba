"""Where sections come from and what makes them comparable."""

# ruff: noqa: F401

import inspect

from brainvae_core.cohorts.artefacts import (
    ARTEFACTS,
    GradedArtefacts,
    artefact_free,
    clean_part,
    corrupted_brains,
    graded_artefacts,
    is_outlier,
)
from brainvae_core.cohorts.atlas import Atlas
from brainvae_core.cohorts.authors import authors_cohort
from brainvae_core.cohorts.brain_table import factor_extremes, known_factors
from brainvae_core.cohorts.ccf import ccf_atlas, ccf_templates
from brainvae_core.cohorts.cohort import Cohort, open_cohort, save_blocks
from brainvae_core.cohorts.drawn import drawn_atlas
from brainvae_core.cohorts.freeform import (
    FREEFORM_FACTORS,
    SIMULATORS,
    SMOOTH_FACTORS,
    PlantedModel,
)
from brainvae_core.cohorts.groups import EFFECTS, planted_difference, simulate_groups
from brainvae_core.cohorts.lab import comparable_brains, suitability, suitable_brains
from brainvae_core.cohorts.orientation import describe_orientation
from brainvae_core.cohorts.preprocess import (
    Preprocessing,
    comparable_section,
    equalise_brightness,
    preprocess,
    run_quality_control,
)
from brainvae_core.cohorts.read import cause, read_acquired, read_ledger, read_sections
from brainvae_core.cohorts.simulated import FACTORS, displaced, simulate
from brainvae_core.cohorts.volumes import read_section

__all__ = [name for name in dir() if name[0] != "_" and not inspect.ismodule(globals()[name])]
