"""How near reconstructions come to brains: explained variance, deviations, spectra."""

import numpy as np

from brainvae_core.metrics.checks import check_positive, checked_alike, checked_images, checked_mean

CHUNK = 64  # images of a spectrum at once


def explained_variance(
    images: np.ndarray, reconstructions: np.ndarray, mean_image: np.ndarray
) -> float:
    """Share of the squared difference from the mean image that reconstructions account for.

    ``1 − Σ (x − r)² / Σ (x − mean)²``, both sums over all brains and pixels: 1 perfect, 0 the mean
    image, which a model that learned nothing would answer, negative worse.

    Parameters
    ----------
    images, reconstructions : ndarray, shape (n, height, width)
    mean_image : ndarray, shape (height, width)
        Of the *training* brains.
    """
    residual, total, _ = _squares(images, reconstructions, mean_image)
    if not total.sum() > 0:
        raise ValueError("every image equals the mean image, so there is no variance to explain")
    return float(1 - residual.sum() / total.sum())


def explained_variance_per_brain(
    images: np.ndarray, reconstructions: np.ndarray, mean_image: np.ndarray
) -> np.ndarray:
    """`explained_variance` of every brain by itself, (n,) float64.

    Parameters
    ----------
    images, reconstructions, mean_image
        As for `explained_variance`.
    """
    residual, total, _ = _squares(images, reconstructions, mean_image, deviates=True)
    return 1 - residual / total


def norm_ratio(
    images: np.ndarray, reconstructions: np.ndarray, mean_image: np.ndarray
) -> np.ndarray:
    """How far reconstructions deviate from the mean image, over how far the brains do, (n,).

    ``‖r − mean‖ / ‖x − mean‖``: 0 for the mean image, 1 for a copy, of a projection the root of
    what it explains.

    Parameters
    ----------
    images, reconstructions, mean_image
        As for `explained_variance`.
    """
    _, total, deviation = _squares(images, reconstructions, mean_image, deviates=True)
    return np.sqrt(deviation / total)


def radial_spectrum(
    images: np.ndarray, pixel_um: float, n_bins: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    """Power of images by spatial frequency, whatever the direction.

    A power is the part of an image's mean square that lies in a ring of frequencies, both under a
    Hann window, which takes the borders' jump away.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
    pixel_um : float
    n_bins : int
        Rings of equal width in log frequency, from one period an image's shorter side to the
        Nyquist frequency. With many, some hold no frequency of a small image; their power is 0.

    Returns
    -------
    frequencies, power : ndarray, shape (n_bins,) and (n, n_bins)
        The first are the rings' geometric middles, in cycles per mm.
    """
    images = checked_images(images, "images", None)  # deviations too
    check_positive(pixel_um=pixel_um, n_bins=n_bins)
    n, *shape = images.shape
    pixel_mm = pixel_um / 1000
    edges = np.geomspace(1 / (min(shape) * pixel_mm), 0.5 / pixel_mm, n_bins + 1)
    radius = np.hypot(
        np.fft.fftfreq(shape[0], pixel_mm)[:, None], np.fft.rfftfreq(shape[1], pixel_mm)
    )
    ring = np.searchsorted(edges, radius, side="right") - 1
    ring[np.isclose(radius, edges[-1])] = n_bins - 1
    ring[ring < 0] = n_bins  # those in no ring
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


def _squares(images, reconstructions, mean_image, deviates=False) -> np.ndarray:
    """Squared distances brain to answer, brain to mean and answer to mean, (3, n)."""
    images, reconstructions = checked_alike(
        {"images": images}, {"reconstructions": reconstructions}
    )
    mean_image = checked_mean(mean_image, images)
    residual, total, deviation = squares = np.empty((3, len(images)))
    # Brain by brain: in float64 a whole cohort would not fit into memory twice.
    for i, image in enumerate(images):
        image, answer = (x.astype(np.float64) for x in (image, reconstructions[i]))
        residual[i] = np.square(image - answer).sum()
        total[i] = np.square(image - mean_image).sum()
        deviation[i] = np.square(answer - mean_image).sum()
    if deviates and not (total > 0).all():
        raise ValueError(
            f"image {np.argmin(total > 0)} equals the mean image, so it has no variance to explain"
        )
    return squares
