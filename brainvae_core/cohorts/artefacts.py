"""The three artefacts of the paper's Fig. 2B, each a seeded function image → (image, mask)."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

VISIBLE = 0.02  # a change of grey value below this is not counted as artefact


def leak(image, *, strength, seed, pixel_um, site=None):
    """Bright signal from the other channel: saturated at the injection site, fading around it.

    Parameters
    ----------
    image : ndarray, shape (height, width)
        Grey values in [0, 1].
    strength : float
        In (0, 1]. Peak brightness added; the radius grows with it from 0.15 to 0.6 mm.
    seed : int or Generator
        The same seed gives the same artefact at every strength.
    pixel_um : float
        Side of a pixel in µm.
    site : (row, column), optional
        Centre in pixels; drawn from the tissue when it is not given.

    Returns
    -------
    image : ndarray of float32, shape (height, width)
        Within [0, 1].
    mask : ndarray of bool, shape (height, width)
        Where the grey value changed by more than 0.02.

    Raises
    ------
    ValueError
        The image is no (height, width) array of grey values in [0, 1], the strength is outside
        (0, 1], or a site is to be drawn from an image that is black.
    """
    image, rng = _checked(image, strength, seed)
    row, column = _tissue_site(image, rng) if site is None else site
    y, x = np.indices(image.shape, dtype=np.float32)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.6)
    along = (y - row) * np.sin(angle) + (x - column) * np.cos(angle)
    across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
    radius = (0.15 + 0.45 * strength) * 1000 / pixel_um
    distance = np.hypot(along / stretch, across) / radius
    return _with_mask(image, image + strength * np.exp(-(distance**2)) * 1.2)


def breakage(image, *, strength, seed, pixel_um, site=None):
    """Missing tissue: an irregular piece with sharp edges goes dark.

    Parameters and returns are those of `leak`; the mean radius of the piece grows with
    ``strength`` up to 1 mm.
    """
    image, rng = _checked(image, strength, seed)
    row, column = _tissue_site(image, rng) if site is None else site
    y, x = np.indices(image.shape, dtype=np.float32)
    rough = _smooth_noise(image.shape, 150 / pixel_um, rng)
    distance = np.hypot(y - row, x - column) * pixel_um / 1000
    gone = distance < strength * (1 + 0.35 * rough)
    return _with_mask(image, np.where(gone, 0.0, image))


def grid(image, *, strength, seed, pixel_um, site=None):
    """Scanning pattern: tiles of 0.9 mm, each darker towards its seams.

    Parameters and returns are those of `leak`; at ``strength`` 1 the seams lose 60 % of their
    brightness. ``site`` is where a seam crossing lies; drawn when it is not given.
    """
    image, rng = _checked(image, strength, seed)
    row, column = rng.uniform(0, 900 / pixel_um, size=2) if site is None else site
    y, x = np.indices(image.shape, dtype=np.float32)
    seam = [np.cos(np.pi * (a - o) * pixel_um / 900) ** 16 for a, o in ((y, row), (x, column))]
    return _with_mask(image, image * (1 - 0.6 * strength * np.maximum(*seam)))


ARTEFACTS = {"leak": leak, "breakage": breakage, "grid": grid}


def _checked(image, strength, seed):
    image = np.asarray(image, dtype=np.float32)
    if image.ndim != 2:
        raise ValueError(f"an artefact needs one (height, width) image, not shape {image.shape}")
    if not ((image >= 0) & (image <= 1)).all():
        raise ValueError(
            f"an artefact needs grey values in [0, 1]; these are {image.min()} to {image.max()}"
        )
    if not 0 < strength <= 1:
        raise ValueError(f"artefact strength {strength} is outside (0, 1]")
    return image, np.random.default_rng(seed)


def _with_mask(image, changed):
    changed = np.clip(changed, 0, 1).astype(np.float32)
    return changed, np.abs(changed - image) > VISIBLE


def _tissue_site(image, rng):
    """One pixel of tissue: brighter than a fifth of the bright end."""
    rows, columns = np.nonzero(image > 0.2 * np.percentile(image, 99))
    if not rows.size:
        raise ValueError("the image is black: no tissue to draw a site from; give a site")
    pick = rng.integers(rows.size)
    return rows[pick], columns[pick]


def _smooth_noise(shape, sigma, rng):
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return noise / noise.std()
