"""How good a model is: arrays in, numbers and long tables out."""

# ruff: noqa: F401

import inspect

from brainvae_core.metrics.cleaning import ArtefactJudge, Judgement, inpaint
from brainvae_core.metrics.codes import (
    Matching,
    active_latents,
    clustering,
    linear_recovery,
    match_latents,
    matching_null,
    nearest_distances,
    outlier_score,
    sidedness_beyond_chance,
    spread,
)
from brainvae_core.metrics.cw_ssim import CWSSIM, cw_ssim, cw_ssim_level
from brainvae_core.metrics.designs import (
    Design,
    brains_needed,
    design_of,
    smallest_difference,
    usable_design,
)
from brainvae_core.metrics.generative import (
    Bound,
    PCABasis,
    aggregate_codes,
    fitted_sigma,
    frechet_distance,
    generated_scores,
    likelihood_bound,
    pca_basis,
    pca_frechet_distance,
)
from brainvae_core.metrics.groups import group_differences
from brainvae_core.metrics.intervals import (
    Estimate,
    difference,
    estimate,
    from_resamples,
    jackknife,
    share_difference,
    verdict,
)
from brainvae_core.metrics.knee import Knee, choose_point, knee_over_seeds, model_knees
from brainvae_core.metrics.likeness import Likeness, difference_kind, section_changes
from brainvae_core.metrics.normative import AdjustedNorm, Norm
from brainvae_core.metrics.reconstruction import (
    ArtefactRemoval,
    ErrorMap,
    artefact_removal,
    auc,
    error_score,
    explained_variance,
    explained_variance_per_brain,
    graded_removal,
    norm_ratio,
    pixel_detection,
    radial_spectrum,
    reproduced_change,
)
from brainvae_core.metrics.tables import (
    compare,
    counted_fits,
    jackknife_table,
    named,
    scores_table,
    summarise,
    summarise_samples,
)

__all__ = [name for name in dir() if name[0] != "_" and not inspect.ismodule(globals()[name])]
