"""Oriented bands of a complex steerable pyramid, a few of its levels at a time."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import numpy as np
import torch

NOTHING = 1e-12  # a band this weak beside its image is rounding error


def bands(images: np.ndarray, level: int, orientations: int, device="cpu") -> torch.Tensor:
    """Complex coefficients of one level.

    A band is a filter of the image's spectrum and a crop of it, so one short transform an image
    and one a band do what the pyramid does by working its way down; the filters are plenoptic's,
    read off its answer to a single bright pixel.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        Their means are taken off first: the pyramid's frequency grid is half a step off for odd
        sizes, and its coarsest band then lets brightness in.
    level : int
        1 is the finest.
    orientations : int
    device : torch.device or str
        Has float64 (CPU or CUDA).

    Returns
    -------
    Tensor of complex128, shape (n, orientations, band height, band width)
    """
    images = torch.from_numpy(np.array(images, dtype=np.float64)).to(device)
    height, width = images.shape[1:]
    rows, columns = _kept(height, level), _kept(width, level)
    centred = images - images.mean((1, 2), keepdim=True)
    spectrum = torch.fft.rfft(centred)[..., : max(abs(columns)) + 1]
    spectrum = torch.fft.fft(spectrum, dim=1)
    there = spectrum[:, rows % height]
    mirrored = spectrum[:, -rows % height].conj()  # negative frequencies of a real image
    cropped = torch.cat(
        [there[..., columns[columns >= 0]], mirrored[..., -columns[columns < 0]]], 2
    )
    filters = _filters((height, width), level, orientations, torch.device(device))
    return torch.fft.ifft2(cropped[:, None] * filters)


def _kept(size: int, level: int) -> np.ndarray:
    """Frequencies of one axis that a level's band keeps, in the order of an FFT.

    Halved level by level about the centre, as the pyramid does; of odd sizes the centre is not
    frequency 0, and the band's own order not an FFT's of it.
    """
    kept = np.arange(size) - size // 2
    for _ in range(level - 1):
        start = math.ceil((len(kept) + 0.5) / 2) - math.ceil(
            (math.ceil((len(kept) - 0.5) / 2) + 0.5) / 2
        )
        kept = kept[start : start + math.ceil((len(kept) - 0.5) / 2)]
    return np.fft.ifftshift(kept)


@lru_cache(maxsize=8)
def _filters(shape, level, orientations, device) -> torch.Tensor:
    # Here, because it takes two seconds that the other metrics need not pay.
    from plenoptic.process import SteerablePyramidFreq

    with warnings.catch_warnings():
        # Odd sizes are reconstructed inexactly; nothing is reconstructed here.
        warnings.filterwarnings("ignore", message="Reconstruction will not be perfect")
        pyramid = SteerablePyramidFreq(
            shape, height=level, order=orientations - 1, is_complex=True, tight_frame=False
        )
    pixel = torch.zeros((1, 1, *shape), dtype=torch.float64)
    pixel[..., 0, 0] = 1
    answer = pyramid.double()(pixel, scales=[level - 1])[level - 1][0, 0]
    return torch.fft.fft2(answer).to(device)
