"""One function per figure of the paper and of the book: arrays in, Figure out.

No function touches pyplot; a notebook shows a figure where it is the last value of a cell.
"""

from brainvae_core.figures.artefacts import (
    fig_detection,
    fig_error_maps,
    fig_keep_reject,
    fig_new_brain,
    fig_outside,
    fig_reconstructions,
)
from brainvae_core.figures.cohort import (
    fig_brightness,
    fig_factors,
    fig_ledger,
    fig_quality,
    fig_sections,
    fig_worst,
)
from brainvae_core.figures.fields import (
    fig_3a,
    fig_3b,
    fig_3c,
    fig_3d,
    fig_3e,
    fig_s2,
    fig_s3,
    fig_s4,
)
from brainvae_core.figures.grid import fig_grids, fig_knee, fig_rate_distortion
from brainvae_core.figures.paper import fig_1, fig_2a, fig_2b, fig_2c, fig_2d, fig_s1
from brainvae_core.figures.scores import fig_curves, fig_differences, fig_scores
from brainvae_core.figures.training import fig_explained, fig_recovery, fig_row, fig_training
from brainvae_core.figures.truth import (
    fig_against_blobs,
    fig_agreement,
    fig_fields,
    fig_maps,
    fig_planted,
    fig_region_profile,
    fig_stability,
    fig_tails,
)

__all__ = [
    "fig_1",
    "fig_2a",
    "fig_2b",
    "fig_2c",
    "fig_2d",
    "fig_3a",
    "fig_3b",
    "fig_3c",
    "fig_3d",
    "fig_3e",
    "fig_against_blobs",
    "fig_agreement",
    "fig_brightness",
    "fig_curves",
    "fig_detection",
    "fig_differences",
    "fig_error_maps",
    "fig_explained",
    "fig_factors",
    "fig_fields",
    "fig_grids",
    "fig_keep_reject",
    "fig_knee",
    "fig_ledger",
    "fig_maps",
    "fig_new_brain",
    "fig_outside",
    "fig_planted",
    "fig_quality",
    "fig_rate_distortion",
    "fig_reconstructions",
    "fig_recovery",
    "fig_region_profile",
    "fig_row",
    "fig_s1",
    "fig_s2",
    "fig_s3",
    "fig_s4",
    "fig_scores",
    "fig_sections",
    "fig_stability",
    "fig_tails",
    "fig_training",
    "fig_worst",
]
