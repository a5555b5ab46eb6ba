"""All that is asked of a reconstruction, by name, one number a brain."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from brainvae_core.metrics.cw_ssim import CWSSIM
from brainvae_core.metrics.denoising import explained_variance_per_brain, norm_ratio
from brainvae_core.metrics.similarity import ms_ssim, psnr
from brainvae_core.metrics.uncertainty import estimate, in_each

LIMITS = {
    "explained variance": (-np.inf, 1),
    "CW-SSIM": (0, 1),
    "MS-SSIM": (0, 1),
    "PSNR": (-np.inf, np.inf),
    "norm ratio": (0, np.inf),
}


def reconstruction_scores(
    images: np.ndarray, reconstructions: np.ndarray, mean_image: np.ndarray, similarity: CWSSIM
) -> dict[str, np.ndarray]:
    """How near reconstructions come to the brains, and how far from the mean image they dare.

    Parameters
    ----------
    images, reconstructions : ndarray, shape (n, height, width)
    mean_image : ndarray, shape (height, width)
        Of the training brains.
    similarity : CWSSIM
        With these images as its references.

    Returns
    -------
    dict of str to ndarray of float64, each (n,)
        ``"explained variance"``, ``"CW-SSIM"``, ``"MS-SSIM"``, ``"PSNR"`` (decibels) and
        ``"norm ratio"``.
    """
    return {
        "explained variance": explained_variance_per_brain(images, reconstructions, mean_image),
        "CW-SSIM": similarity(reconstructions),
        "MS-SSIM": ms_ssim(images, reconstructions),
        "PSNR": psnr(images, reconstructions),
        "norm ratio": norm_ratio(images, reconstructions, mean_image),
    }


def reconstruction_estimates(scores: Mapping) -> dict[str, dict]:
    """Scores of several fits, regrouped by what was asked, with intervals.

    Parameters
    ----------
    scores : mapping of anything to sequence of `reconstruction_scores`, or such a mapping
        A sequence a model, an entry a fit.

    Returns
    -------
    dict of str to dict
        By score; below it the keys of ``scores``, and an `Estimate`.
    """
    return {
        name: in_each(
            scores, lambda fits, name=name: estimate([f[name] for f in fits], bounds=LIMITS[name])
        )
        for name in LIMITS
    }
