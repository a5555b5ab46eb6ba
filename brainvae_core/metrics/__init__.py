"""How good a model is: arrays in, numbers out."""

from brainvae_core.metrics.cw_ssim import CWSSIM, cw_ssim, cw_ssim_level, cw_ssim_scale_um
from brainvae_core.metrics.denoising import (
    ArtefactRemoval,
    artefact_removal,
    explained_variance,
    explained_variance_per_brain,
    norm_ratio,
    reproduced_change,
)
from brainvae_core.metrics.detection import (
    Curves,
    ErrorMap,
    PixelDetection,
    auc,
    detection_curves,
    error_score,
    outlier_score,
    pixel_detection,
)
from brainvae_core.metrics.disentanglement import (
    DCI,
    dci,
    importance_scores,
    mutual_information,
    mutual_information_gap,
)
from brainvae_core.metrics.dispersion import clustering, nearest_distances, spread
from brainvae_core.metrics.frechet import (
    PCABasis,
    frechet_distance,
    frechet_profile,
    pca_basis,
    pca_frechet_distance,
)
from brainvae_core.metrics.generation import aggregate_codes, beside, generated_scores
from brainvae_core.metrics.graded import (
    graded_removal,
    graded_table,
    painted_back,
    removal_by_share,
)
from brainvae_core.metrics.knee import Knee, choose_point, knee, knee_over_seeds
from brainvae_core.metrics.likelihood import Bound, fitted_sigma, likelihood_bound
from brainvae_core.metrics.matching import Matching, match_latents, matching_null
from brainvae_core.metrics.precision_recall import sample_precision, sample_recall
from brainvae_core.metrics.reconstruction import reconstruction_estimates, reconstruction_scores
from brainvae_core.metrics.recovery import active_latents, explained_by_factors, linear_recovery
from brainvae_core.metrics.similarity import ms_ssim, psnr
from brainvae_core.metrics.spectrum import radial_spectrum
from brainvae_core.metrics.tails import (
    sidedness,
    sidedness_beyond_chance,
    sidedness_null,
    tail_counts,
)
from brainvae_core.metrics.uncertainty import (
    Estimate,
    difference,
    differences,
    estimate,
    estimates,
    from_resamples,
    in_each,
    jackknife,
    jackknife_difference,
    jackknives,
    picked,
    verdict,
)

__all__ = [
    "CWSSIM",
    "DCI",
    "ArtefactRemoval",
    "Bound",
    "Curves",
    "ErrorMap",
    "Estimate",
    "Knee",
    "Matching",
    "PCABasis",
    "PixelDetection",
    "active_latents",
    "aggregate_codes",
    "artefact_removal",
    "auc",
    "beside",
    "choose_point",
    "clustering",
    "cw_ssim",
    "cw_ssim_level",
    "cw_ssim_scale_um",
    "dci",
    "detection_curves",
    "difference",
    "differences",
    "error_score",
    "estimate",
    "estimates",
    "explained_by_factors",
    "explained_variance",
    "explained_variance_per_brain",
    "fitted_sigma",
    "frechet_distance",
    "frechet_profile",
    "from_resamples",
    "generated_scores",
    "graded_removal",
    "graded_table",
    "importance_scores",
    "in_each",
    "jackknife",
    "jackknife_difference",
    "jackknives",
    "knee",
    "knee_over_seeds",
    "likelihood_bound",
    "linear_recovery",
    "match_latents",
    "matching_null",
    "ms_ssim",
    "mutual_information",
    "mutual_information_gap",
    "nearest_distances",
    "norm_ratio",
    "outlier_score",
    "painted_back",
    "pca_basis",
    "pca_frechet_distance",
    "picked",
    "pixel_detection",
    "psnr",
    "radial_spectrum",
    "reconstruction_estimates",
    "reconstruction_scores",
    "removal_by_share",
    "reproduced_change",
    "sample_precision",
    "sample_recall",
    "sidedness",
    "sidedness_beyond_chance",
    "sidedness_null",
    "spread",
    "tail_counts",
    "verdict",
]
