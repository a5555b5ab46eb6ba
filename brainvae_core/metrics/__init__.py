"""How good a model is: arrays in, numbers out."""

from brainvae_core.metrics.cw_ssim import CWSSIM, cw_ssim, cw_ssim_scale_um
from brainvae_core.metrics.denoising import (
    ArtefactRemoval,
    artefact_removal,
    explained_variance,
    explained_variance_per_brain,
)
from brainvae_core.metrics.frechet import (
    PCABasis,
    frechet_distance,
    frechet_profile,
    pca_basis,
    pca_frechet_distance,
)
from brainvae_core.metrics.knee import Knee, choose_point, knee, knee_over_seeds
from brainvae_core.metrics.recovery import active_latents, linear_recovery

__all__ = [
    "CWSSIM",
    "ArtefactRemoval",
    "Knee",
    "PCABasis",
    "active_latents",
    "artefact_removal",
    "choose_point",
    "cw_ssim",
    "cw_ssim_scale_um",
    "explained_variance",
    "explained_variance_per_brain",
    "frechet_distance",
    "frechet_profile",
    "knee",
    "knee_over_seeds",
    "linear_recovery",
    "pca_basis",
    "pca_frechet_distance",
]
