"""Do generated images look real, and do they cover what is real? Two numbers, not one."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from brainvae_core.metrics.checks import checked_rows


def sample_precision(real: np.ndarray, generated: np.ndarray, k: int = 3) -> float:
    """Share of generated images that lie among the real ones.

    That is within a ball around a real image that reaches to its k-th nearest real neighbour.

    Parameters
    ----------
    real, generated : ndarray, shape (n, d)
        Scores in a basis (``PCABasis.project``), as many of each: the share grows with n.
    k : int

    Returns
    -------
    float
        1 for a set and itself. Of two samples of one distribution it is well below 1 in many
        dimensions: show real against real beside it.

    Raises
    ------
    ValueError
        Different shapes, a score that is not finite, or not more than k images.

    References
    ----------
    Kynkäänniemi, Karras, Laine, Lehtinen, Aila (2019), NeurIPS.
    """
    real, generated = checked_rows(real, "real"), checked_rows(generated, "generated")
    if real.shape != generated.shape:
        raise ValueError(
            f"real {real.shape} and generated {generated.shape} must have one shape: as many "
            "images of each, in one basis"
        )
    if k not in range(1, len(real)):
        raise ValueError(f"k={k} neighbours of {len(real)} images; 1 to {len(real) - 1} exist")
    reach = cKDTree(real).query(real, k + 1)[0][:, k]
    return float((cdist(real, generated) <= reach[:, np.newaxis]).any(axis=0).mean())


def sample_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> float:
    """Share of real images that lie among the generated ones: `sample_precision` the other way.

    Parameters
    ----------
    real, generated : ndarray, shape (n, d)
        Scores in a basis (``PCABasis.project``), as many of each.
    k : int
        Which nearest neighbour of a generated image its ball reaches to.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As for `sample_precision`.
    """
    return sample_precision(generated, real, k)
