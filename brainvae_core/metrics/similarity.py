"""MS-SSIM and PSNR, from the libraries that keep them, image by image."""

from __future__ import annotations

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio

from brainvae_core.metrics.checks import checked_pair

# Wang, Simoncelli, Bovik (2003): of a pixel's scale, then of every doubling.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11  # pixels, SSIM's
CHUNK_PIXELS = 2**21


def ms_ssim(reference: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Multi-scale structural similarity of every image with its reference.

    Parameters
    ----------
    reference, images : ndarray, shape (n, height, width)
        Grey values, clipped to [0, 1], which the index's constants are made for.

    Returns
    -------
    ndarray of float64, shape (n,)
        At most 1, for identical images and, by its constants, for two that are black; 0 where
        structure is reversed at any scale.

    Raises
    ------
    ValueError
        Shapes differ, a pixel is not finite, or a side has fewer than 11 pixels.

    Notes
    -----
    Scales that SSIM's window does not fit into are left out, the *finest* ones: 5 at 320 × 448
    pixels, 4 at 160 × 224, so that the coarsest has one size in micrometres. The weights of the
    others are divided by their sum. plenoptic's implementation, whose window has single precision,
    in single precision: ten times faster, and the same to 1e-4.

    References
    ----------
    Wang, Simoncelli, Bovik (2003), Asilomar Conference on Signals, Systems and Computers 2:1398.
    """
    from plenoptic.metric import ms_ssim as of_plenoptic  # here: two seconds

    reference, images = checked_pair(reference, images)
    smallest = min(images.shape[1:])
    if smallest < WINDOW:
        raise ValueError(f"images of {images.shape[1:]} are too small; MS-SSIM needs 11 pixels")
    scales = min(len(SCALE_WEIGHTS), int(np.log2(smallest / WINDOW)) + 1)
    weights = torch.tensor(SCALE_WEIGHTS[-scales:])
    scores, step = np.empty(len(images)), max(1, CHUNK_PIXELS // images[0].size)
    for start in range(0, len(images), step):
        x, y = (
            torch.from_numpy(part[start : start + step].astype(np.float32)).clamp(0, 1)[:, None]
            for part in (reference, images)
        )
        scores[start : start + step] = of_plenoptic(x, y, weights / weights.sum())[:, 0]
    return scores


def psnr(reference: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of every image, in decibels, for a peak of 1.

    Parameters
    ----------
    reference, images : ndarray, shape (n, height, width)

    Returns
    -------
    ndarray of float64, shape (n,)
        ``−10 log10`` of the mean squared difference; infinite for identical images.
    """
    reference, images = checked_pair(reference, images)
    with np.errstate(divide="ignore"):
        return np.array(
            [
                peak_signal_noise_ratio(x.astype(np.float64), y.astype(np.float64), data_range=1.0)
                for x, y in zip(reference, images, strict=True)
            ]
        )
