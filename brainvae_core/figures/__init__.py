"""One function per figure of the paper and of the book: arrays and tables in, Figure out.

No function leaves anything in pyplot's state; a notebook shows a figure where it is the last value
of a cell. What figures share is in `style` (looks, captions, text) and `primitives` (sections, heat
maps, lines with bands, points with intervals, distributions).
"""

# ruff: noqa: F401

from brainvae_core.figures.brains import (
    fig_deviations,
    fig_error_maps,
    fig_factors,
    fig_group_maps,
    fig_quality,
    fig_reconstructions,
    fig_sections,
)
from brainvae_core.figures.fits import fig_grids, fig_knee, fig_rate_distortion, fig_training
from brainvae_core.figures.paper import fig_1, fig_2a, fig_2b, fig_2c, fig_2d, fig_s1
from brainvae_core.figures.projective import (
    fig_3a,
    fig_fields,
    fig_maps,
    fig_region_profile,
    fig_s4,
)
from brainvae_core.figures.receptive import fig_3b, fig_3c, fig_3d, fig_3e, fig_s2, fig_s3
from brainvae_core.figures.scores import fig_curves, fig_differences, fig_power, fig_scores
from brainvae_core.figures.truth import (
    fig_against_blobs,
    fig_agreement,
    fig_planted,
    fig_recovery,
    fig_stability,
)

__all__ = [name for name in dir() if name.startswith("fig_")]
