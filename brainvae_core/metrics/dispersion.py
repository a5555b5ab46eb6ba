"""How codes lie in latent space: how far apart, and whether in clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from brainvae_core.metrics.checks import checked_rows

NULL_DRAWS = 20


class Dispersion(NamedTuple):
    """Distances between codes.

    Attributes
    ----------
    spread : float
        Root mean square distance from the codes' mean.
    nearest : ndarray, shape (n,)
        Distance of every code to its nearest neighbour.
    clustering : float
        Mean of ``nearest`` over what it is in a Gaussian sample of the same size, mean and
        covariance: 1 for Gaussian codes, below 1 where they lie in clusters, above 1 where they
        keep apart.
    """

    spread: float
    nearest: np.ndarray
    clustering: float


def dispersion(codes: np.ndarray, seed: int = 0) -> Dispersion:
    """How far codes lie apart, and whether in clusters.

    Parameters
    ----------
    codes : ndarray, shape (n, latent_dim)
        Posterior means; divided by the posterior's standard deviations, distances are in units of
        what the model itself cannot tell apart.
    seed : int
        Of the Gaussian samples, 20 of them.

    Returns
    -------
    Dispersion
        In the unit of the codes. ``clustering`` does not change when codes are moved, or turned
        and stretched as a whole.

    Raises
    ------
    ValueError
        Fewer than two codes, a code that is not finite, or codes that are all the same.

    Notes
    -----
    The ratio is that of Clark and Evans (1954), Ecology 35:445, with a Gaussian in place of a
    uniform field.
    """
    codes = checked_rows(codes, "codes")
    centred = codes - codes.mean(axis=0)
    if not np.ptp(codes, axis=0).any():
        raise ValueError("the codes are all the same, so they have no neighbours to speak of")
    nearest = _nearest(codes)
    rng, n = np.random.default_rng(seed), len(codes)
    # A product with the codes themselves has their covariance, singular or not.
    samples = (rng.standard_normal((n, n)) @ centred / np.sqrt(n - 1) for _ in range(NULL_DRAWS))
    expected = np.mean([_nearest(sample).mean() for sample in samples])
    spread = np.sqrt(np.square(centred).sum(axis=1).mean())
    return Dispersion(float(spread), nearest, float(nearest.mean() / expected))


def _nearest(codes) -> np.ndarray:
    return cKDTree(codes).query(codes, 2)[0][:, 1]
