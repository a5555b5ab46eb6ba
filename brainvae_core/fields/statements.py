"""What section 3.3 of the paper says of the latents, as numbers of one fit.

``shifts`` (…, n_rois, latent_dim) are ``ReceptiveField.effect_size``: how far a region's range of
brightness moves each latent, in standard deviations of its codes. Leading axes, such as resampled
brains, stay. The tests have a model for each statement of which it is true by construction.
"""

import numpy as np
from scipy import ndimage

from brainvae_core.fields.independence import checked_active

MOVED = 0.5  # standard deviations, a medium effect (Cohen 1988): a region modulates a latent
UNMOVED = 0.2  # a small one: below it a region does not
LOCAL = 1 / 3  # of the regions: a latent that no more of them modulate is localised
SPOT = (1e-3, 0.2)  # share of the brain: less is a speck, more is no spot
EXCESS = 0.05  # grey values above the brightest brain


def share_moved(shifts: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
    """Share of the active latents that each region moves by half a SD or more, (…, n_rois)."""
    return (_checked(shifts, active) >= MOVED).mean(axis=-1)


def share_unmoved(shifts: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
    """Share of pairs of a region and an active latent that it moves by less than 0.2 SD, (…)."""
    return (_checked(shifts, active) < UNMOVED).mean(axis=(-2, -1))


def share_localised(shifts: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
    """Share of the active latents that some regions, but at most a third, move by half a SD, (…).

    A latent that no region moves is not localised.
    """
    moved = _checked(shifts, active) >= MOVED
    by_latent = moved.sum(axis=-2)
    return ((by_latent > 0) & (by_latent <= LOCAL * moved.shape[-2])).mean(axis=-1)


def share_gap(divergences: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """How unlike a latent's two fields are at each region, (…, n_rois, latent_dim), −1 to 1.

    The region's share of the latent's receptive field less its share of the projective field.

    Parameters
    ----------
    divergences : ndarray, shape (…, n_rois, latent_dim)
        ``ReceptiveField.divergence``, nats.
    profile : ndarray, shape (latent_dim, n_rois)
        ``region_profile``.
    """
    seen, moved = np.asarray(divergences, dtype=float), np.asarray(profile, dtype=float).T
    if seen.ndim < 2 or seen.shape[-2:] != moved.shape:
        raise ValueError(
            f"divergences {seen.shape} and profile {moved.T.shape} must be (…, n_rois, latent_dim) "
            "and (latent_dim, n_rois)"
        )
    return _shares(seen) - _shares(moved)


def has_spot(images: np.ndarray, brightest: np.ndarray, brain_mask: np.ndarray) -> np.ndarray:
    """Whether images (…, height, width) have a spot brighter than any brain, (…) bool.

    A spot is a connected piece of 0.1 to 20 % of the brain in which every pixel is at least 0.05
    grey values above the brightest that a brain has there.

    Parameters
    ----------
    images, brightest, brain_mask : ndarray, the last two of shape (height, width)
        Decoded images, the maximum over brains, and the brain.
    """
    images, brain_mask = np.asarray(images), np.asarray(brain_mask, dtype=bool)
    if not images.shape[-2:] == np.shape(brightest) == brain_mask.shape or not brain_mask.any():
        raise ValueError(
            f"images {images.shape}, brightest {np.shape(brightest)} and brain_mask "
            f"{brain_mask.shape} must be of one size, with a brain"
        )
    above = (images > np.asarray(brightest) + EXCESS) & brain_mask
    low, high = np.array(SPOT) * brain_mask.sum()
    found = np.zeros(images.shape[:-2], dtype=bool)
    for at in np.ndindex(found.shape):
        sizes = np.bincount(ndimage.label(above[at])[0].ravel())[1:]
        found[at] = ((sizes >= low) & (sizes <= high)).any()
    return found


def _checked(shifts, active) -> np.ndarray:
    shifts = np.abs(np.asarray(shifts, dtype=float))
    if shifts.ndim < 2 or not np.isfinite(shifts).all():
        raise ValueError(
            f"shifts of shape {shifts.shape} must be (…, n_rois, latent_dim) and finite; pass a "
            "field's effect_size"
        )
    return shifts[..., checked_active(active, shifts.shape[-1])]


def _shares(of_regions) -> np.ndarray:
    total = of_regions.sum(axis=-2, keepdims=True)
    return np.divide(of_regions, total, out=np.zeros_like(of_regions), where=total > 0)
