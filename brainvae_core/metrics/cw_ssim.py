"""Complex-wavelet structural similarity: are two images alike at one scale?"""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import torch

WEIGHTINGS = ("gaussian", "uniform")
WINDOW = 7  # pixels of the band, the reference code's
CHUNK_PIXELS = 2**19  # of images or bands held at once, whichever are more: fastest on one core
NOTHING = 1e-12  # a band this weak beside its image is rounding error


def cw_ssim(
    reference: np.ndarray,
    images: np.ndarray,
    level: int = 4,
    orientations: int = 8,
    weighting: str = "gaussian",
    k: float = 0.0,
) -> np.ndarray:
    """CW-SSIM of images with a reference.

    The oriented bands of one scale of a complex steerable pyramid are compared window by window:
    ``(2 |Σ c_x c_y*| + k) / (Σ |c_x|² + Σ |c_y|² + k)`` over 7 × 7 coefficients, averaged over
    windows with a spatial weight, then over orientations. Borders are circular, and no guard band
    is cut off. Odd sizes work, but the pyramid's frequency grid is half a step off there (a change
    of about 0.002 at 45 × 77).

    Parameters
    ----------
    reference : ndarray, shape (height, width) or (n, height, width)
        The clean or input image: one for all, or one for each.
    images : ndarray, shape (n, height, width) or (height, width)
        What is compared with it. The score is symmetric in the two.
    level : int
        Scale of the pyramid, 1 the finest; `cw_ssim_scale_um` says how large its structures are.
    orientations : int
        Oriented bands, 2 to 16.
    weighting : {"gaussian", "uniform"}
        Spatial weight of the windows: a centred Gaussian with σ = band height / 4 (the reference),
        or all windows alike.
    k : float
        Stabiliser, in squared coefficients summed over one window (the reference code takes the
        window's average, so its K is this one / 49).

    Returns
    -------
    ndarray of float64, shape (n,)
        In [0, 1]; 1 for identical images, 2s / (1 + s²) for an image and s times itself at k = 0.

    Raises
    ------
    ValueError
        Shapes differ, a pixel is not finite, an argument is out of range, or an image has nothing
        at this scale (a constant image), which at k = 0 is 0/0.

    References
    ----------
    Sampat, Wang, Gupta, Bovik, Markey (2009), IEEE Trans. Image Process. 18:2385.
    """
    reference, images = _checked(reference, "reference"), _checked(images, "image")
    n, *shape = images.shape
    if reference.shape[1:] != images.shape[1:] or len(reference) not in (1, n):
        raise ValueError(
            f"reference {reference.shape} and images {images.shape} do not match; "
            "give one reference (height, width), or one of that shape for each image"
        )
    _check_arguments(tuple(shape), level, orientations, weighting, k)
    chunk = max(1, int(CHUNK_PIXELS / (np.prod(shape) * max(1, orientations / 4 ** (level - 1)))))
    shared = _bands(reference, level, orientations, k, "reference") if len(reference) == 1 else None
    scores = np.empty(n)
    for start in range(0, n, chunk):
        part = slice(start, start + chunk)
        x = shared
        if x is None:
            x = _bands(reference[part], level, orientations, k, "reference", start)
        y = _bands(images[part], level, orientations, k, "image", start)
        similarity = _windowed_similarity(x, y, k)
        weights = _weights(tuple(similarity.shape[-2:]), y.shape[-2], weighting)
        scores[part] = (similarity * weights).sum((-2, -1)).mean(1).numpy()
    return np.minimum(scores, 1.0)  # rounding may pass it by 1e-16


def cw_ssim_scale_um(level: int, pixel_um: float) -> float:
    """Wavelength in micrometres at which the bands of a level respond most.

    A level passes one octave to either side of it: level 1 is centred on half the Nyquist
    frequency (a period of 4 pixels), and every further level doubles the period.

    Parameters
    ----------
    level : int
        Scale of the pyramid, 1 the finest.
    pixel_um : float
        Side of one pixel in micrometres.

    Returns
    -------
    float
        ``pixel_um * 2 ** (level + 1)``: 800 µm for level 4 at 25 µm.
    """
    return float(pixel_um * 2 ** (level + 1))


def _checked(images, what: str) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim not in (2, 3) or not images.size:
        raise ValueError(
            f"the {what} array is {images.shape}; it must be (height, width) or (n, height, width)"
        )
    images = images[np.newaxis] if images.ndim == 2 else images
    finite = np.isfinite(images).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(
            f"{what} {np.flatnonzero(~finite)[0]} has pixels that are not finite; "
            "leave it out or mend them first"
        )
    return images


def _check_arguments(shape, level, orientations, weighting, k) -> None:
    deepest = int(np.log2(min(shape))) - 2
    if deepest < 1:
        raise ValueError(f"images of {shape} are too small; the pyramid needs 8 pixels a side")
    if level not in range(1, deepest + 1):
        raise ValueError(f"level {level} does not exist for images of {shape}; 1 to {deepest} do")
    if orientations not in range(2, 17):
        raise ValueError(f"orientations must be a whole number from 2 to 16, not {orientations}")
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
    if not 0 <= k < np.inf:
        raise ValueError(f"k must be a finite number of at least 0, not {k}")


@lru_cache(maxsize=4)
def _pyramid(shape: tuple[int, int], level: int, orientations: int) -> torch.nn.Module:
    # Here, because it takes two seconds that the other metrics need not pay.
    from plenoptic.process import SteerablePyramidFreq

    with warnings.catch_warnings():
        # Odd sizes are reconstructed inexactly; nothing is reconstructed here.
        warnings.filterwarnings("ignore", message="Reconstruction will not be perfect")
        pyramid = SteerablePyramidFreq(
            shape, height=level, order=orientations - 1, is_complex=True, tight_frame=False
        )
    return pyramid.double()


def _bands(images, level, orientations, k, what, first=0) -> torch.Tensor:
    """Coefficients of one level, (n, orientations, band height, band width) complex128."""
    images = images.astype(np.float64)
    # The pyramid's grid is half a step off for odd sizes, and its coarsest band then lets
    # brightness in.
    centred = torch.from_numpy(images - images.mean(axis=(1, 2), keepdims=True))
    pyramid = _pyramid(images.shape[1:], level, orientations)
    bands = pyramid(centred[:, np.newaxis], scales=[level - 1])[level - 1][:, 0]
    if k == 0:
        strongest = bands.abs().amax((-2, -1)).numpy()
        empty = strongest <= NOTHING * np.abs(images).max(axis=(1, 2))[:, np.newaxis]
        if empty.any():
            image, orientation = np.argwhere(empty)[0]
            raise ValueError(
                f"{what} {first + image} has nothing at level {level}, orientation "
                f"{orientation + 1} of {orientations} (a constant image?), so its score at k = 0 "
                "would be 0/0; leave it out, or give k > 0"
            )
    return bands


def _windowed_similarity(x: torch.Tensor, y: torch.Tensor, k: float) -> torch.Tensor:
    """Similarity of every 7 × 7 window, (n, orientations, band height − 6, band width − 6)."""
    cross = x * y.conj()
    energy = x.abs().square() + y.abs().square()
    real, imaginary, energy = (
        torch.nn.functional.avg_pool2d(part, WINDOW, stride=1) * WINDOW**2
        for part in (cross.real, cross.imag, energy)
    )
    return (2 * torch.hypot(real, imaginary) + k) / (energy + k)


def _weights(shape: tuple[int, int], band_height: int, weighting: str) -> torch.Tensor:
    if weighting == "uniform":
        return torch.full(shape, 1 / (shape[0] * shape[1]), dtype=torch.float64)
    sigma = band_height / 4  # of both axes
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in shape)
    weights = np.exp(-(rows[:, np.newaxis] ** 2 + columns**2) / (2 * sigma**2))
    return torch.from_numpy(weights / weights.sum())
