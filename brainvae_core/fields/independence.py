"""How the latents' receptive fields relate to one another, and what section 3.3 says of latents.

``impacts`` is a receptive field, (n_rois, latent_dim) in nats (Figs 3B, 3D, 3E). ``shifts`` (…,
n_rois, latent_dim) are ``ReceptiveField.effect_size``: how far a region's range of brightness moves
each latent, in standard deviations of its codes. From 0.5 on, whatever the sign, the region
modulates the latent; below 0.2 it does not. Leading axes, such as resampled brains, stay.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

MOVED = 0.5  # standard deviations, a medium effect (Cohen 1988): a region modulates a latent
UNMOVED = 0.2  # a small one: below it a region does not
LOCAL = 1 / 3  # of the regions: a latent that no more of them modulate is localised
SPOT = (1e-3, 0.2)  # share of the brain: less is a speck, more is no spot
EXCESS = 0.05  # grey values above the brightest brain

# A column that varies less than this, relative to its size, is rounding and has no correlation.
CONSTANT = 1e-9
ATTEMPTS = 1000  # draws before a null or a bootstrap gives up


def normalised_impacts(impacts: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
    """Each region's impacts as shares of its sum over the active latents (Fig. 3B).

    (n_rois, latent_dim), 0 to 1, each row of sum 1. Impacts, of that shape, are nats, 0 or more;
    of latents that are not ``active`` (latent_dim,) bool, all of them by default, the share is 0.
    """
    impacts = np.asarray(impacts, dtype=np.float64)
    if impacts.ndim != 2 or not np.isfinite(impacts).all() or (impacts < 0).any():
        raise ValueError(
            f"impacts of shape {impacts.shape} must be (n_rois, latent_dim), finite and 0 or more; "
            "pass a field's divergence"
        )
    kept = np.where(checked_active(active, impacts.shape[1]), impacts, 0.0)
    totals = kept.sum(axis=1, keepdims=True)
    if (totals == 0).any():
        rows = np.flatnonzero(totals[:, 0] == 0).tolist()
        raise ValueError(f"regions {rows} move no active latent, so have no shares; leave them out")
    return kept / totals


def uncorrelatedness(impacts: np.ndarray, active: np.ndarray | None = None) -> float:
    """How differently the latents are driven by the regions, 0 to 1 (Fig. 3E).

    1 − mean ``|correlation|`` over pairs of active latents, of the shares of
    :func:`normalised_impacts` over at least 3 regions. Independent columns score far below 1 when
    regions are few (0.63 ± 0.05 at 6 regions and 8 latents), and closing the rows to 1 forces 0 at
    two latents: compare models at equal numbers of them, beside chance (:func:`scored_field`).
    """
    return _score(_active_shares(impacts, active))


def uncorrelatedness_null(impacts, n, active=None) -> np.ndarray:
    """Scores (n,) of shares that are permuted over regions, latent by latent, rows closed to 1."""
    shares, rng = _active_shares(impacts, active), np.random.default_rng(0)
    return np.array([_permuted_score(shares, rng) for _ in range(n)])


class Scored(NamedTuple):
    """Uncorrelatedness of a fit, and what chance would give.

    ``resamples`` (n,) are of resampled brains (a region drawn twice would correlate with itself),
    ``permuted`` (n,) of latents whose shares are permuted over regions, each by itself, ``rotated``
    (n_rotations,) of random axes.
    """

    value: float
    resamples: np.ndarray
    permuted: np.ndarray
    rotated: np.ndarray


def scored_field(field, active: np.ndarray, n: int = 200, n_rotations: int = 50) -> Scored:
    """Uncorrelatedness of a receptive field with its interval's draws and its two chances.

    Parameters
    ----------
    field, active : ReceptiveField and ndarray of bool, shape (latent_dim,)
    n, n_rotations : int
        Draws of brains and of the null; random axes.
    """
    turned = (field.rotated(i, active) for i in range(n_rotations))
    return Scored(
        uncorrelatedness(field.divergence, active),
        np.array([uncorrelatedness(drawn, active) for drawn in field.bootstrapped(n, 0)]),
        uncorrelatedness_null(field.divergence, n, active),
        np.array([uncorrelatedness(t.divergence) for t in turned]),
    )


def impact_correlation(impacts: np.ndarray) -> np.ndarray:
    """Correlation of latents' shares over regions, (latent_dim, latent_dim), −1 to 1 (Fig. 3D).

    Of impacts (n_rois, latent_dim) in nats, over at least 3 regions; shares as of
    `normalised_impacts`. Above 0 two latents have their larger shares in the same regions.
    """
    return np.corrcoef(_active_shares(impacts, None), rowvar=False)


def _active_shares(impacts, active) -> np.ndarray:
    """Shares of the active latents, if all of them have correlations."""
    shares = normalised_impacts(impacts, active)
    columns = np.flatnonzero(checked_active(active, shares.shape[1]))
    shares = shares[:, columns]
    if shares.shape[0] < 3 or shares.shape[1] < 2:
        raise ValueError(
            f"{shares.shape[0]} regions and {shares.shape[1]} active latents are too few for "
            "correlations; give at least 3 and 2"
        )
    if (constant := _constant(shares)).any():
        raise ValueError(
            f"latents at index {columns[constant].tolist()} have the same share in every region, "
            "so no correlation; leave them out of `active` or add regions"
        )
    return shares


def _score(shares) -> float:
    correlation = np.abs(np.corrcoef(shares, rowvar=False))
    return float(1.0 - correlation[np.triu_indices_from(correlation, k=1)].mean())


def _constant(shares: np.ndarray) -> np.ndarray:
    return np.ptp(shares, axis=0) <= CONSTANT * np.abs(shares).max(axis=0)


def _permuted_score(shares, rng) -> float:
    """Of the first draw whose correlations exist, its rows closed to 1 again."""
    for _ in range(ATTEMPTS):
        drawn = rng.permuted(shares, axis=0)
        totals = drawn.sum(axis=1, keepdims=True)
        if (totals == 0).any() or len(np.unique(drawn, axis=0)) < 3:
            continue
        drawn = drawn / totals
        if not _constant(drawn).any():
            return _score(drawn)
    raise ValueError(
        f"{ATTEMPTS} draws in a row left fewer than 3 different regions or a constant latent; "
        "use more regions"
    )


def checked_active(active: np.ndarray | None, latent_dim: int) -> np.ndarray:
    """Which latents count, (latent_dim,) bool: all where ``active`` is None."""
    if active is None:
        return np.ones(latent_dim, dtype=bool)
    active = np.asarray(active)
    if active.dtype != bool or active.shape != (latent_dim,):
        raise ValueError(
            f"active is {active.dtype} of shape {active.shape}; give one bool for each of the "
            f"{latent_dim} latents"
        )
    if not active.any():
        raise ValueError(
            f"none of the {latent_dim} latents is active: this model tells no brains apart, so "
            "there is no field to read; fit it longer or with a smaller beta"
        )
    return active


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of every row of a with every row of b, (n_a, n_b); 0 of flat rows."""
    units = []
    for rows in (a, b):
        rows = np.asarray(rows, dtype=np.float64)
        centred = rows - rows.mean(axis=1, keepdims=True)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        largest = np.abs(rows).max(axis=1, keepdims=True)
        varies = length > CONSTANT * rows.shape[1] ** 0.5 * np.maximum(largest, 1e-30)
        units.append(np.divide(centred, length, out=np.zeros_like(centred), where=varies))
    return np.clip(units[0] @ units[1].T, -1.0, 1.0)


# ---- section 3.3 ----


def share_moved(shifts: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
    """Share of the active latents that each region modulates, by 0.5 or more, (…, n_rois)."""
    return (_checked_shifts(shifts, active) >= MOVED).mean(axis=-1)


def share_unmoved(shifts: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
    """Share of pairs of a region and an active latent whose shift is below 0.2, (…)."""
    return (_checked_shifts(shifts, active) < UNMOVED).mean(axis=(-2, -1))


def share_localised(shifts: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
    """Share of the active latents that some regions, but at most a third, modulate, (…).

    A latent that no region modulates is not localised.
    """
    moved = _checked_shifts(shifts, active) >= MOVED
    by_latent = moved.sum(axis=-2)
    return ((by_latent > 0) & (by_latent <= LOCAL * moved.shape[-2])).mean(axis=-1)


def share_gap(divergences: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """How unlike a latent's two fields are at each region, (…, n_rois, latent_dim), −1 to 1.

    The region's share of the latent's receptive field, of ``ReceptiveField.divergence``, less its
    share of the projective field, of ``region_profile`` (latent_dim, n_rois).
    """
    seen, moved = np.asarray(divergences, dtype=float), np.asarray(profile, dtype=float).T
    if seen.ndim < 2 or seen.shape[-2:] != moved.shape:
        raise ValueError(
            f"divergences {seen.shape} and profile {moved.T.shape} must be (…, n_rois, latent_dim) "
            "and (latent_dim, n_rois)"
        )
    return _shares_of(seen) - _shares_of(moved)


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


def _checked_shifts(shifts, active) -> np.ndarray:
    shifts = np.abs(np.asarray(shifts, dtype=float))
    if shifts.ndim < 2 or not np.isfinite(shifts).all():
        raise ValueError(
            f"shifts of shape {shifts.shape} must be (…, n_rois, latent_dim) and finite; pass a "
            "field's effect_size"
        )
    return shifts[..., checked_active(active, shifts.shape[-1])]


def _shares_of(of_regions) -> np.ndarray:
    total = of_regions.sum(axis=-2, keepdims=True)
    return np.divide(of_regions, total, out=np.zeros_like(of_regions), where=total > 0)
