"""How codes lie in latent space: how far apart, and whether in clusters."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from brainvae_core.metrics.checks import checked_rows

NULL_DRAWS = 20


def spread(codes: np.ndarray) -> float:
    """Root mean square distance of codes (n, latent_dim) from their mean, in their unit."""
    codes = checked_rows(codes, "codes")
    return float(np.sqrt(codes.var(axis=0).sum()))


def nearest_distances(codes: np.ndarray) -> np.ndarray:
    """Distance of every code to its nearest neighbour.

    Parameters
    ----------
    codes : ndarray, shape (n, latent_dim)
        Posterior means; divided by the posterior's standard deviations, distances are in units of
        what the model itself cannot tell apart.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ValueError
        Fewer than two codes, or a code that is not finite.
    """
    codes = checked_rows(codes, "codes")
    return cKDTree(codes).query(codes, 2)[0][:, 1]


def clustering(codes: np.ndarray, seed: int = 0) -> float:
    """How much nearer neighbours are than in a Gaussian sample.

    Parameters
    ----------
    codes : ndarray, shape (n, latent_dim)
    seed : int
        Of the Gaussian samples, 20 of them.

    Returns
    -------
    float
        Mean nearest distance over what it is in Gaussian samples of the same size, mean and
        covariance: 1 for Gaussian codes, below 1 where they lie in clusters, above 1 where they
        keep apart. Moving codes, or turning and stretching them as a whole, changes nothing.

    Raises
    ------
    ValueError
        Fewer than two codes, a code that is not finite, or codes that are all the same.

    Notes
    -----
    The ratio of Clark and Evans (1954), Ecology 35:445, with a Gaussian in place of a uniform
    field.
    """
    codes = checked_rows(codes, "codes")
    if not np.ptp(codes, axis=0).any():
        raise ValueError("the codes are all the same, so they have no neighbours to speak of")
    centred = codes - codes.mean(axis=0)
    rng, n = np.random.default_rng(seed), len(codes)
    # A product with the codes themselves has their covariance, singular or not.
    samples = (rng.standard_normal((n, n)) @ centred / np.sqrt(n - 1) for _ in range(NULL_DRAWS))
    expected = np.mean([nearest_distances(sample).mean() for sample in samples])
    return float(nearest_distances(codes).mean() / expected)
