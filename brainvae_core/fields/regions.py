"""Regions of an image: their brightness, its range over brains, its change, and random ones."""

import numpy as np
from scipy import ndimage
from skimage.graph import MCP_Geometric

MODES = ("mask", "add")
FEWEST_PIXELS = 4


def perturb(
    images: np.ndarray,
    roi_mask: np.ndarray,
    weight: float,
    mean_brightness: float,
    mode: str = "mask",
) -> np.ndarray:
    """Images with one region's brightness replaced or raised, float32 (Liu et al. 2020, § 2.2).

    ``"mask"``: x₀ ⊙ (1 − m) + w·μ_R·m. ``"add"``: x₀ + w·μ_R·m. Not clipped to [0, 1], so that
    equal steps of w stay equal steps of the input.

    Parameters
    ----------
    images, roi_mask : ndarray, shape (n, height, width) and (height, width)
    weight, mean_brightness : float
        w, and μ_R: the training brains' mean brightness in the region.
    mode : {"mask", "add"}
    """
    images, roi_mask = np.asarray(images, dtype=np.float32), np.asarray(roi_mask, dtype=bool)
    if images.ndim != 3 or roi_mask.shape != images.shape[1:]:
        raise ValueError(
            f"images {images.shape} and roi_mask {roi_mask.shape} must be (n, height, width) and "
            "(height, width) of one size"
        )
    level = np.float32(weight * mean_brightness)
    return np.where(roi_mask, images + level if checked_mode(mode) == "add" else level, images)


def region_brightness(images: np.ndarray, roi_masks: np.ndarray) -> np.ndarray:
    """Mean brightness of each region in each brain, (n_rois, n_brains)."""
    images, roi_masks = np.asarray(images), checked_masks(images, roi_masks)
    return np.stack([images[:, m].mean(axis=1, dtype=np.float64) for m in roi_masks])


def weight_range(
    images: np.ndarray,
    roi_masks: np.ndarray,
    *,
    mean_brightness: np.ndarray | None = None,
    mode: str = "mask",
    n_weights: int = 2,
) -> np.ndarray:
    """Weights that span each region's own variability, so that regions are comparable.

    (n_rois, n_weights), evenly from the 1st to the 99th percentile over brains of the region's mean
    brightness, divided by μ_R; for ``"add"`` less 1. With the same μ_R in the field it cancels.

    Parameters
    ----------
    images, roi_masks, mean_brightness, mode
        As for :func:`receptive_field`.
    n_weights : int
        Weights a region, the two ends included.
    """
    brightness = region_brightness(images, roi_masks)
    mu = checked_brightness(mean_brightness, brightness)
    low, high = np.percentile(brightness, [1, 99], axis=1) / mu - (checked_mode(mode) == "add")
    if (flat := np.flatnonzero(high <= low)).size:
        raise ValueError(
            f"regions at index {flat.tolist()} are equally bright in all {len(images)} brains; "
            "give more brains or weights of your own"
        )
    return np.linspace(low, high, n_weights, axis=1)


def region_profile(field_variance_all: np.ndarray, roi_masks: np.ndarray) -> np.ndarray:
    """Mean variance (latent_dim, height, width) of each region's pixels, (latent_dim, n_rois)."""
    variance, masks = np.asarray(field_variance_all), np.asarray(roi_masks, dtype=bool)
    if variance.ndim != 3 or masks.ndim != 3 or variance.shape[1:] != masks.shape[1:]:
        raise ValueError(
            f"variance {variance.shape} and roi_masks {masks.shape} must be (latent_dim, height, "
            "width) and (n_rois, height, width)"
        )
    if not masks.any(axis=(1, 2)).all():
        raise ValueError("a region in roi_masks has no pixel; leave it out")
    return np.stack([variance[:, m].mean(axis=1, dtype=np.float64) for m in masks], axis=1)


def tail_asymmetry(field_variance: np.ndarray, roi_masks: np.ndarray) -> np.ndarray:
    """How much more the upper outer quartile of c moves each region than the lower one.

    Of ``ProjectiveField.variance``: (V₊ − V₋) / (V₊ + V₋) of the region's mean variances,
    (latent_dim, n_rois), 0 where neither moves it. Only whether regions share a sign says anything.
    """
    below, above = (region_profile(np.asarray(field_variance)[:, q], roi_masks) for q in (0, 3))
    both = below + above
    return np.divide(above - below, both, out=np.zeros_like(both), where=both > 0)


def random_blobs(
    brain_mask: np.ndarray, n_pixels: int, n: int, seed: int, *, mirrored: bool = False
) -> np.ndarray:
    """Connected random regions (n, height, width) of one size inside the brain: a null.

    From a random pixel a blob takes the ``n_pixels`` nearest ones along paths inside the brain,
    where smooth noise makes some ground longer than other: irregular outlines.

    Parameters
    ----------
    brain_mask : ndarray of bool, shape (height, width)
    n_pixels, n, seed : int
        Pixels of each blob (at least 4, in one connected piece of the brain), blobs, seed.
    mirrored : bool
        Half of the pixels left, and their mirror image; an odd number loses one.
    """
    brain_mask = np.asarray(brain_mask, dtype=bool)
    if mirrored:
        left = np.arange(brain_mask.shape[1]) < brain_mask.shape[1] // 2
        half = random_blobs(brain_mask & brain_mask[:, ::-1] & left, n_pixels // 2, n, seed)
        return half | half[:, :, ::-1]
    pieces, _ = ndimage.label(brain_mask, structure=np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if not FEWEST_PIXELS <= n_pixels <= sizes.max():
        raise ValueError(
            f"blobs of {n_pixels} pixels are impossible; from {FEWEST_PIXELS} to {sizes.max()} fit "
            "into a connected piece of this brain"
        )
    centres = np.argwhere(sizes[pieces] >= n_pixels)
    rng = np.random.default_rng(seed)
    blobs = np.zeros((n, *brain_mask.shape), dtype=bool)
    for blob in blobs:
        noise = ndimage.gaussian_filter(
            rng.standard_normal(brain_mask.shape), max(np.sqrt(n_pixels) / 4, 1)
        )
        ground = np.where(brain_mask, np.exp(0.7 * noise / noise.std()), -1.0)
        distance, _ = MCP_Geometric(ground).find_costs([rng.choice(centres)])
        blob.flat[np.argsort(distance, axis=None)[:n_pixels]] = True
    return blobs


def checked_mode(mode: str) -> str:
    """The mode as given, if it is one."""
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is unknown; 'mask' replaces the region, 'add' adds to it")
    return mode


def checked_masks(images: np.ndarray, roi_masks: np.ndarray) -> np.ndarray:
    """Masks as bool (n_rois, height, width) that fit the images, or a ValueError."""
    shape, masks = np.shape(images), np.asarray(roi_masks, dtype=bool)
    if len(shape) != 3 or masks.ndim != 3 or masks.shape[1:] != shape[1:]:
        raise ValueError(
            f"images {shape} and roi_masks {masks.shape} must be (n_brains, height, width) and "
            "(n_rois, height, width) of one size"
        )
    pixels = masks.sum(axis=(1, 2))
    if (pixels < FEWEST_PIXELS).any():
        small = {int(i): int(pixels[i]) for i in np.flatnonzero(pixels < FEWEST_PIXELS)}
        raise ValueError(
            f"regions (index: pixels) {small} have fewer than {FEWEST_PIXELS} pixels; leave them "
            "out or use a finer resolution"
        )
    return masks


def checked_brightness(mean_brightness, brightness: np.ndarray) -> np.ndarray:
    """μ_R as (n_rois,): as given, or the mean over brains of ``brightness`` (n_rois, n_brains)."""
    mu = brightness.mean(axis=1) if mean_brightness is None else np.asarray(mean_brightness, float)
    if mu.shape != (len(brightness),) or not np.isfinite(mu).all() or (mu <= 0).any():
        raise ValueError(
            f"mean_brightness {np.round(mu, 4).tolist()} must be one finite value above 0 for each "
            f"of {len(brightness)} regions"
        )
    return mu
