"""What makes sections comparable: crop, brightness, and a rule for brains without artefacts."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import tifffile
from scipy.ndimage import uniform_filter1d

from brainvae_core.cohorts.atlas import AUTHORS_CROP, Atlas, block_mean

CLEAN_LIMIT = 4.0  # robust standard deviations


def open_section(path: str | Path) -> np.ndarray:
    """One registered section from a ``.npy``, ``.npz`` (one array) or ``.tif`` file.

    Returns
    -------
    ndarray of float32, shape (height, width)
        In the file's own grey values.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file, another format, a damaged file, or not one (height, width) image.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no section at {path}")
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".tif", ".tiff"):
        raise ValueError(f"{path} is of a format that is not read; .npy, .npz and .tif are")
    try:
        section = _only_array(path) if suffix.startswith(".np") else tifffile.imread(path)
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is no readable section: {reason}") from error
    if section.ndim != 2 or section.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} holds {section.dtype} of shape {section.shape}; one (height, width) section "
            "of grey values is read"
        )
    return section.astype(np.float32)


def comparable_section(section: np.ndarray, atlas: Atlas, brightness: float) -> np.ndarray:
    """A registered section on a cohort's own grid and grey values.

    Parameters
    ----------
    section : ndarray, shape (320, 456) or (320, 448), or the atlas's own
        On the CCF's 25 µm grid, in any grey values; columns 4 to 452 of 456 are kept.
    atlas : Atlas
        Gives the grid and which pixels are brain.
    brightness : float
        Mean grey value that the brain's pixels are scaled to (the cohort's average).

    Returns
    -------
    ndarray of float32, shape ``atlas.shape``
        In [0, 1]; brighter pixels are clipped.

    Raises
    ------
    ValueError
        Another shape, a NaN, a section without brightness in the brain, or a brightness outside
        (0, 1].
    """
    if not 0 < brightness <= 1:
        raise ValueError(f"brightness={brightness} is outside (0, 1]; give the cohort's average")
    section = np.asarray(section, dtype=np.float32)
    if section.shape == (320, 456):
        section = section[:, AUTHORS_CROP]
    factor = section.shape[0] // atlas.shape[0] if section.ndim == 2 else 0
    if factor < 1 or section.shape != tuple(factor * s for s in atlas.shape):
        raise ValueError(
            f"section of shape {section.shape} does not fit the cohort's {atlas.shape}; 320 × 456 "
            "(25 µm), 320 × 448 or the cohort's own do"
        )
    if not np.isfinite(section).all():
        raise ValueError("section has a NaN or infinite pixel")
    section = block_mean(section, factor)
    own = section[atlas.brain_mask].mean()
    if own <= 0 or section.min() == section.max():
        raise ValueError("section has no brightness inside the brain; is it registered?")
    return np.clip(section * (brightness / own), 0, 1)


def artefact_scores(images, is_reference, atlas: Atlas) -> np.ndarray:
    """How unlike the reference brains each section is, in three ways an artefact shows.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
    is_reference : ndarray of bool, shape (n,)
        The training brains: medians and spreads are theirs.
    atlas : Atlas
        Gives pixel size and which pixels are brain.

    Returns
    -------
    ndarray, shape (n, 3)
        Brightest and darkest block of 0.2 mm, and stripes along rows or columns, as robust standard
        deviations above the reference brains' median.

    Raises
    ------
    ValueError
        `is_reference` is no mask of these brains, or picks fewer than 3.
    """
    is_reference = np.asarray(is_reference)
    if is_reference.shape != (len(images),) or is_reference.dtype != bool:
        raise ValueError(
            f"is_reference must be {len(images)} booleans, one a brain, not "
            f"{is_reference.dtype} of shape {is_reference.shape}"
        )
    if is_reference.sum() < 3:
        raise ValueError(
            f"{is_reference.sum()} reference brains have no spread to compare with; give 3 or more"
        )
    inside, block = atlas.brain_mask, round(200 / atlas.pixel_um)
    rest = (images - np.median(images[is_reference], axis=0)) * inside
    blocks = _against_own_spread(block_mean(rest, block), is_reference)
    stripes = []
    for axis in (1, 2):
        profile = rest.sum(axis=axis)
        fast = profile - uniform_filter1d(profile, round(900 / atlas.pixel_um), axis=1)
        stripes.append(_against_own_spread(fast, is_reference).std(axis=1))
    found = [blocks.max(axis=(1, 2)), -blocks.min(axis=(1, 2)), np.maximum(*stripes)]
    statistics = np.stack(found, axis=1)
    centre = np.median(statistics[is_reference], axis=0)
    spread = 1.4826 * np.median(np.abs(statistics[is_reference] - centre), axis=0)
    return (statistics - centre) / spread


def _against_own_spread(values, is_reference):
    """Borders that registration leaves uncertain vary most: each place by its own spread."""
    spread = 1.4826 * np.median(np.abs(values[is_reference]), axis=0)
    return values / np.maximum(spread, np.median(spread[spread > 0]))


def clean_brains(images, is_reference, atlas: Atlas) -> np.ndarray:
    """Brains without a visible artefact, by a rule on images alone that is fixed before any fit.

    Returns
    -------
    ndarray of bool, shape (n,)
        No score of `artefact_scores` reaches 4.
    """
    return (artefact_scores(images, is_reference, atlas) < CLEAN_LIMIT).all(axis=1)


def _only_array(path):
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        if len(content.files) != 1:
            raise ValueError(f"it holds arrays {', '.join(content.files)}; a file with one is read")
        return content[content.files[0]]
