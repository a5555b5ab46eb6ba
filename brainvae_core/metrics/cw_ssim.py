"""Complex-wavelet structural similarity: are two images alike at one scale?"""

import warnings
from functools import lru_cache

import numpy as np
import torch

from brainvae_core.metrics.checks import check_positive, checked_images

WEIGHTINGS = ("gaussian", "uniform")
SCALE_UM = 800.0
NOTHING = 1e-12  # a band this weak beside its image is rounding error
WINDOW = 7  # pixels of the band, the reference code's
# Of images or bands held at once, whichever are more: fastest on one core; a GPU wants more work.
CHUNK_PIXELS, CHUNK_PIXELS_GPU = 2**19, 2**24


def cw_ssim(
    reference: np.ndarray,
    images: np.ndarray,
    level: int = 4,
    orientations: int = 8,
    weighting: str = "gaussian",
) -> np.ndarray:
    """CW-SSIM of images with a reference (Sampat et al. 2009, with K = 0), (n,) float64.

    The oriented bands of one scale of a complex steerable pyramid are compared window by window:
    ``2 |Σ c_x c_y*| / (Σ |c_x|² + Σ |c_y|²)`` over 7 × 7 coefficients, averaged over windows with a
    spatial weight, then over orientations: 1 for identical images, 2s / (1 + s²) for an image and
    s times itself. Borders are circular. At odd sizes the pyramid's frequency grid is half a step
    off (a change of about 0.002 at 45 × 77).

    Parameters
    ----------
    reference : ndarray, shape (height, width) or (n, height, width)
        The clean or input image: one for all, or one for each. The score is symmetric in the two.
    images : ndarray, shape (n, height, width) or (height, width)
    level, orientations : int
        Scale of the pyramid, 1 the finest (`cw_ssim_level`); oriented bands, 2 to 16.
    weighting : {"gaussian", "uniform"}
        Of the windows: a centred Gaussian with σ = band height / 4, as the reference's, or alike.
    """
    reference, images = _stack(reference, "reference"), _stack(images, "images", "answers")
    _check_match(reference.shape, images.shape)
    return CWSSIM(reference, level, orientations, weighting)(images)


class CWSSIM:
    """`cw_ssim` with references whose bands are computed once, for several sets of images.

    They are kept as complex128, ``orientations / 4 ** (level - 1)`` numbers a pixel, on a torch
    device with float64; "auto" is CUDA where there is one, else the CPU.
    """

    def __init__(self, reference, level=4, orientations=8, weighting="gaussian", device="auto"):
        reference = _stack(reference, "reference")
        self.shape = reference.shape
        _check_arguments(self.shape[1:], level, orientations, weighting)
        self.level, self.orientations = level, orientations
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        pixels = CHUNK_PIXELS if self.device.type == "cpu" else CHUNK_PIXELS_GPU
        of_image = np.prod(self.shape[1:]) * max(1, orientations / 4 ** (level - 1))
        self.chunk = max(1, int(pixels / of_image))
        parts = [
            self._bands(reference[i : i + self.chunk], "reference", i)
            for i in range(0, len(reference), self.chunk)
        ]
        self.bands = torch.cat(parts)
        self.energy = torch.cat([_windowed(_square(part)) for part in parts])
        size = tuple(self.energy.shape[-2:])
        self.weights = _weights(size, self.bands.shape[-2], weighting).to(self.device)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Scores of images (n, height, width), (n,) float64: one reference for all, or one each."""
        images = _stack(images, "images", "answers")
        _check_match(self.shape, images.shape)
        scores = np.empty(len(images))
        for start in range(0, len(images), self.chunk):
            part = slice(start, start + self.chunk)
            own = part if len(self.bands) > 1 else slice(None)
            y = self._bands(images[part], "image", start)
            cross = _windowed(torch.view_as_real(self.bands[own] * y.conj()).movedim(-1, 1))
            energy = self.energy[own] + _windowed(_square(y))
            similarity = 2 * torch.hypot(cross[:, 0], cross[:, 1]) / energy
            scores[part] = (similarity * self.weights).sum((-2, -1)).mean(1).cpu().numpy()
        if not (finite := np.isfinite(scores)).all():
            raise ValueError(
                f"image {np.argmin(finite)} has values whose squares are beyond float64; give grey "
                "values"
            )
        return np.minimum(scores, 1.0)  # rounding may pass it by 1e-16

    def _bands(self, images, what, start):
        found = bands(images, self.level, self.orientations, self.device)
        strongest = found.abs().amax((-2, -1)).cpu().numpy()
        empty = strongest <= NOTHING * np.abs(images).max(axis=(1, 2))[:, np.newaxis]
        if empty.any():
            image, orientation = np.argwhere(empty)[0]
            raise ValueError(
                f"{what} {start + image} has nothing at level {self.level}, orientation "
                f"{orientation + 1} of {self.orientations} (a constant image?), so its score would "
                "be 0/0; leave it out"
            )
        return found


def cw_ssim_level(pixel_um: float) -> int:
    """The level, at least 1, whose bands respond most near a wavelength of 800 µm: 4 at 25 µm.

    Level 1 is centred on a period of 4 pixels, and every further one doubles it.
    """
    check_positive(pixel_um=pixel_um)
    return max(1, round(float(np.log2(SCALE_UM / pixel_um))) - 1)


def _stack(images, name: str, unit: str = "greys") -> np.ndarray:
    images = np.asarray(images)
    return checked_images(images[np.newaxis] if images.ndim == 2 else images, name, unit)


def _check_arguments(shape, level, orientations, weighting) -> None:
    deepest = int(np.log2(min(shape))) - 2
    if deepest < 1:
        raise ValueError(f"images of {shape} are too small; the pyramid needs 8 pixels a side")
    if level not in range(1, deepest + 1):
        raise ValueError(f"level {level} does not exist for images of {shape}; 1 to {deepest} do")
    if orientations not in range(2, 17):
        raise ValueError(f"orientations must be a whole number from 2 to 16, not {orientations}")
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")


def _check_match(reference, images) -> None:
    if reference[1:] != images[1:] or reference[0] not in (1, images[0]):
        raise ValueError(
            f"reference {reference} and images {images} do not match; "
            "give one reference (height, width), or one of that shape for each image"
        )


def _square(values: torch.Tensor) -> torch.Tensor:
    return values.real.square() + values.imag.square()


def _windowed(values: torch.Tensor) -> torch.Tensor:
    """Sums over 7 × 7 windows that lie inside, (…, height − 6, width − 6)."""
    # Along one axis and then the other: a pooling layer of float64 takes five times as long, and
    # differences of running sums would drown windows in the dark in the rounding of bright ones.
    return values.unfold(-1, WINDOW, 1).sum(-1).unfold(-2, WINDOW, 1).sum(-1)


def _weights(shape: tuple[int, int], band_height: int, weighting: str) -> torch.Tensor:
    if weighting == "uniform":
        return torch.full(shape, 1 / (shape[0] * shape[1]), dtype=torch.float64)
    sigma = band_height / 4  # of both axes
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in shape)
    weights = np.exp(-(rows[:, np.newaxis] ** 2 + columns**2) / (2 * sigma**2))
    return torch.from_numpy(weights / weights.sum())


def bands(images: np.ndarray, level: int, orientations: int, device="cpu") -> torch.Tensor:
    """Complex coefficients of one level, complex128 (n, orientations, band height, band width).

    A band is a filter of the image's spectrum and a crop of it; the filters are plenoptic's, read
    off its answer to a single bright pixel. Means are taken off first: at odd sizes the coarsest
    band lets brightness in.
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
        half = (len(kept) + 1) // 2
        start = len(kept) // 2 - half // 2
        kept = kept[start : start + half]
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
