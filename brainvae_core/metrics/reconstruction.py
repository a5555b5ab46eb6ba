"""How near reconstructions come to brains: explained variance, MS-SSIM, PSNR, spectra."""

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio

from brainvae_core.metrics.checks import check_positive, checked_alike, checked_images, checked_mean
from brainvae_core.metrics.cw_ssim import CWSSIM

# Wang, Simoncelli, Bovik (2003): of a pixel's scale, then of every doubling.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11  # pixels, SSIM's
CHUNK_PIXELS = 2**21
CHUNK = 64  # images of a spectrum at once
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
    """All that is asked of a reconstruction, by name, (n,) float64 each.

    Parameters
    ----------
    images, reconstructions, mean_image
        As for `explained_variance`.
    similarity : CWSSIM
        With these images as its references.
    """
    return {
        "explained variance": explained_variance_per_brain(images, reconstructions, mean_image),
        "CW-SSIM": similarity(reconstructions),
        "MS-SSIM": ms_ssim(images, reconstructions),
        "PSNR": psnr(images, reconstructions),
        "norm ratio": norm_ratio(images, reconstructions, mean_image),
    }


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


def ms_ssim(reference: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Multi-scale structural similarity (n,) of images with their references (Wang et al. 2003).

    Of grey values, clipped to [0, 1]: 1 for identical images, 0 where structure is reversed at any
    scale. Where SSIM's window fits into fewer than 5 scales the *finest* are left out (4 remain at
    160 × 224), so that the coarsest has one size in micrometres, and the other weights are divided
    by their sum. plenoptic's implementation in single precision, right to 1e-4.
    """
    from plenoptic.metric import ms_ssim as of_plenoptic  # here: two seconds

    reference, images = checked_alike({"reference": reference}, {"images": images})
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
    """Peak signal-to-noise ratio of every image, decibels for a peak of 1; ∞ if identical."""
    reference, images = checked_alike({"reference": reference}, {"images": images})
    pairs = zip(reference.astype(np.float64), images.astype(np.float64), strict=True)
    with np.errstate(divide="ignore"):
        return np.array([peak_signal_noise_ratio(x, y, data_range=1.0) for x, y in pairs])


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
