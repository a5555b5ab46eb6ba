"""How the latents' receptive fields relate to one another (Figs 3B, 3D, 3E).

Arrays in, numbers out. ``impacts`` is a receptive field, (n_rois, latent_dim) in nats.
"""

from typing import NamedTuple

import numpy as np

# A column that varies less than this, relative to its size, is rounding and has no correlation.
CONSTANT = 1e-9


def normalised_impacts(impacts: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
    """Each region's impacts as shares of its sum over the active latents (Fig. 3B).

    Parameters
    ----------
    impacts : ndarray, shape (n_rois, latent_dim)
        Divergences in nats, 0 or more.
    active : ndarray of bool, shape (latent_dim,), optional
        Latents that count, the others have share 0; all of them by default.
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


def most_moved(impacts: np.ndarray, n: int, active: np.ndarray | None = None) -> np.ndarray:
    """The n latents with the largest sums of shares, (latent_dim,) bool: for others' ``active``.

    Parameters
    ----------
    impacts, n, active
        As for `normalised_impacts`; how many, so that fits are compared at one number of latents.
    """
    shares = normalised_impacts(impacts, active)
    active = checked_active(active, shares.shape[1])
    if not 1 <= n <= active.sum():
        raise ValueError(f"n={n} latents of {active.sum()} active ones; give 1 to {active.sum()}")
    ranked = np.argsort(np.where(active, -shares.sum(axis=0), np.inf), kind="stable")
    kept = np.zeros_like(active)
    kept[ranked[:n]] = True
    return kept


def uncorrelatedness(impacts: np.ndarray, active: np.ndarray | None = None) -> float:
    """How differently the latents are driven by the regions, 0 to 1 (Fig. 3E).

    1 − mean ``|correlation|`` over pairs of active latents, of the shares of
    :func:`normalised_impacts` over at least 3 regions. Independent columns score far below 1 when
    regions are few (0.63 ± 0.05 at 6 regions and 8 latents), and closing the rows to 1 forces 0 at
    two latents: compare models at equal numbers of them and beside :func:`uncorrelatedness_null`.
    """
    return _score(_active_shares(impacts, active))


def uncorrelatedness_null(
    impacts: np.ndarray, n: int, seed: int, active: np.ndarray | None = None
) -> np.ndarray:
    """Scores (n,) when the latents' profiles over regions have nothing to do with one another.

    The shares of each latent are permuted over regions by themselves and the rows are closed to 1
    again.

    Parameters
    ----------
    impacts, n, seed, active
        As for `normalised_impacts`; draws and their seed.
    """
    shares = _active_shares(impacts, active)
    rng = np.random.default_rng(seed)
    return np.array([_draw(lambda: rng.permuted(shares, axis=0)) for _ in range(n)])


class Scored(NamedTuple):
    """Uncorrelatedness of a fit, and what chance would give.

    ``resamples`` (n,) are of resampled brains (a region drawn twice would correlate with itself),
    ``permuted`` (n,) of :func:`uncorrelatedness_null`, ``rotated`` (n_rotations,) of random axes.
    """

    value: float
    resamples: np.ndarray
    permuted: np.ndarray
    rotated: np.ndarray


def scored_field(
    field, active: np.ndarray, n: int = 200, n_rotations: int = 50, seed: int = 0
) -> Scored:
    """Uncorrelatedness of a receptive field with its interval's draws and its two chances.

    Parameters
    ----------
    field, active : ReceptiveField and ndarray of bool, shape (latent_dim,)
    n, n_rotations, seed : int
        Draws of brains and of the null; random axes; seed.
    """
    turned = (field.rotated(seed + i, active) for i in range(n_rotations))
    return Scored(
        uncorrelatedness(field.divergence, active),
        np.array([uncorrelatedness(drawn, active) for drawn in field.bootstrapped(n, seed)]),
        uncorrelatedness_null(field.divergence, n, seed, active),
        np.array([uncorrelatedness(t.divergence) for t in turned]),
    )


def impact_correlation(impacts: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
    """Correlation (latent_dim, latent_dim) of latents' shares over regions (Fig. 3D).

    NaN of a latent that is not active.
    """
    shares = _active_shares(impacts, active)
    kept = checked_active(active, np.shape(impacts)[1])
    found = np.full((len(kept), len(kept)), np.nan)
    found[np.ix_(kept, kept)] = np.corrcoef(shares, rowvar=False)
    return found


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


def _draw(make, attempts: int = 1000) -> float:
    """Score of the first draw whose correlations exist, its rows closed to 1 again."""
    for _ in range(attempts):
        shares = make()
        totals = shares.sum(axis=1, keepdims=True)
        if (totals == 0).any() or len(np.unique(shares, axis=0)) < 3:
            continue
        shares = shares / totals
        if not _constant(shares).any():
            return _score(shares)
    raise ValueError(
        f"{attempts} draws in a row left fewer than 3 different regions or a constant latent; "
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
