"""At which scales a difference between images lies."""

from __future__ import annotations

import numpy as np

from brainvae_core.metrics.checks import checked_images

CHUNK = 64


def radial_spectrum(
    images: np.ndarray, pixel_um: float, n_bins: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    """Power of images by spatial frequency, whatever the direction.

    A Hann window takes the borders' jump away. A power is the part of the windowed image's mean
    square (over the window's own) that lies in a ring of frequencies. Slower than one period a
    side, and the corners beyond an axis's Nyquist frequency, are in no ring.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        Such as residuals.
    pixel_um : float
        Side of a pixel in µm.
    n_bins : int
        Rings of equal width in log frequency, from one period an image's shorter side to the
        Nyquist frequency. The slowest are so narrow that with many rings some hold no frequency
        of a small image; their power is 0.

    Returns
    -------
    frequencies : ndarray, shape (n_bins,)
        Geometric middle of each ring, in cycles per mm.
    power : ndarray, shape (n, n_bins)

    Raises
    ------
    ValueError
        An image that is not finite, no positive pixel size, or fewer than 1 bin.
    """
    images = checked_images(images, "images")
    if not 0 < pixel_um < np.inf or n_bins < 1:
        raise ValueError(
            f"pixel_um={pixel_um} must be positive and finite, and n_bins={n_bins} at least 1"
        )
    n, *shape = images.shape
    edges, ring = _rings(tuple(shape), pixel_um / 1000, n_bins)
    window = np.outer(*(np.hanning(size + 2)[1:-1] for size in shape))
    # Every frequency but those of the first and (of an even width) last column stands for two.
    twice = np.full(shape[1] // 2 + 1, 2.0)
    twice[0] = 1.0
    if shape[1] % 2 == 0:
        twice[-1] = 1.0
    scale = twice / (np.square(window).sum() * window.size)
    power = np.empty((n, n_bins))
    for start in range(0, n, CHUNK):
        part = images[start : start + CHUNK].astype(np.float64)
        spectrum = np.square(np.abs(np.fft.rfft2(part * window))) * scale
        for i, one in enumerate(spectrum, start):
            power[i] = np.bincount(ring.ravel(), one.ravel(), n_bins + 1)[:n_bins]
    return np.sqrt(edges[:-1] * edges[1:]), power


def _rings(shape, pixel_mm, n_bins):
    """Edges of the rings (n_bins + 1,) and every frequency's ring; ``n_bins`` for those outside."""
    edges = np.geomspace(1 / (min(shape) * pixel_mm), 0.5 / pixel_mm, n_bins + 1)
    radius = np.hypot(
        np.fft.fftfreq(shape[0], pixel_mm)[:, None], np.fft.rfftfreq(shape[1], pixel_mm)
    )
    ring = np.searchsorted(edges, radius, side="right") - 1
    ring[np.isclose(radius, edges[-1])] = n_bins - 1
    return edges, np.where(ring < 0, n_bins, ring)
