"""Classical denoisers: they learn nothing of brains, and are what a model is to be better than."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from brainvae_core.models.images import checked_images


def _median(image, amount):
    from scipy.ndimage import median_filter

    return median_filter(image, round(amount))


def _non_local_means(image, amount):
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(image, patch_size=5, patch_distance=6, h=amount, fast_mode=True)


def _total_variation(image, amount):
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(image, weight=amount)


class Filter(NamedTuple):
    """One kind of denoiser: ``apply(image, amount)``, and amounts from weak to strong."""

    apply: Callable[[np.ndarray, float], np.ndarray]
    amounts: tuple[float, ...]


DENOISERS = {
    "median": Filter(_median, (3, 5, 7, 9, 13)),
    "non-local means": Filter(_non_local_means, (0.01, 0.02, 0.05, 0.1, 0.2)),
    "total variation": Filter(_total_variation, (0.01, 0.03, 0.1, 0.3, 1.0)),
}


@dataclass(frozen=True)
class Denoiser:
    """A filter with its amount; ``reconstruct`` as a model has it, without a code between.

    Parameters
    ----------
    name : str
        A key of ``DENOISERS``.
    amount : float
        Pixels of the median's square; for non-local means the difference of patches, in grey
        values, that counts as alike; weight of the total variation.
    """

    name: str
    amount: float

    def __post_init__(self):
        _filter(self.name)
        if not self.amount > 0:
            raise ValueError(f"amount={self.amount} of {self.name} must be positive")

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Denoised images, (n, height, width) float32."""
        images = checked_images(images)
        found = np.empty_like(images)
        for image, denoised in zip(images, found, strict=True):
            denoised[:] = _filter(self.name).apply(image, self.amount)
        return found


def tuned_denoiser(name: str, clean: np.ndarray, corrupted: np.ndarray) -> Denoiser:
    """The amount that brings corrupted images nearest to their clean truth.

    Parameters
    ----------
    name : str
        Of `DENOISERS`.
    clean, corrupted : ndarray, shape (n, height, width)
        Brains that it will not be measured on; nearest by squared error over all their pixels.

    Raises
    ------
    ValueError
        An unknown name, shapes that differ, or a pixel that is not finite.
    """
    if np.shape(clean) != np.shape(corrupted):
        raise ValueError(
            f"clean {np.shape(clean)} and corrupted {np.shape(corrupted)} must have one shape"
        )
    clean = checked_images(clean)
    candidates = [Denoiser(name, amount) for amount in _filter(name).amounts]
    return min(candidates, key=lambda d: np.square(d.reconstruct(corrupted) - clean).sum())


def _filter(name) -> Filter:
    if name not in DENOISERS:
        raise ValueError(f"no denoiser {name!r}; there are {', '.join(DENOISERS)}")
    return DENOISERS[name]
