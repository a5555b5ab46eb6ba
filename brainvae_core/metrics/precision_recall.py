"""Do generated images look real, and do they cover what is real? Two numbers, not one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from brainvae_core.metrics.checks import checked_rows


class PrecisionRecall(NamedTuple):
    """Shares of images in the other set's neighbourhood."""

    precision: float  # of generated images that lie among real ones
    recall: float  # of real images that lie among generated ones


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> PrecisionRecall:
    """Precision and recall of generated images by nearest neighbours.

    A set's neighbourhood is every ball around one of its points that reaches to that point's
    k-th nearest neighbour in the set.

    Parameters
    ----------
    real, generated : ndarray, shape (n, d)
        Scores in a basis (``PCABasis.project``), as many of each: both shares grow with n.
    k : int

    Returns
    -------
    PrecisionRecall
        Both 1 for a set and itself. Of two samples of one distribution they are well below 1 in
        many dimensions: show real against real beside them.

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
    distances = cdist(real, generated)
    return PrecisionRecall(
        float((distances <= _reach(real, k)[:, np.newaxis]).any(axis=0).mean()),
        float((distances <= _reach(generated, k)).any(axis=1).mean()),
    )


def _reach(points, k) -> np.ndarray:
    """Distance of every point to its k-th nearest other point, (n,)."""
    return cKDTree(points).query(points, k + 1)[0][:, k]
