"""Latents of several fits: which is which, before anything of them is averaged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import ortho_group

from brainvae_core.metrics.checks import checked_rows


class Matching(NamedTuple):
    """For each latent of a reference fit, the latent of another fit that stands for it.

    Attributes
    ----------
    order : ndarray of int, shape (latent_dim,)
        ``codes[:, order]`` are in the reference's order.
    sign : ndarray, shape (latent_dim,)
        1, or -1 where the other fit has the latent the other way round.
    correlation : ndarray, shape (latent_dim,)
        Absolute Pearson's r of the pairs over brains, 0 to 1.
    """

    order: np.ndarray
    sign: np.ndarray
    correlation: np.ndarray


def match_latents(reference: np.ndarray, codes: np.ndarray) -> Matching:
    """Pair the latents of two fits, one to one, so that ``|r|`` over brains is largest in sum.

    A latent's number and sign mean nothing across fits: F1 of one seed is not F1 of another.

    Parameters
    ----------
    reference, codes : ndarray, shape (n_brains, latent_dim)
        Codes of the same brains by two fits.

    Returns
    -------
    Matching

    Raises
    ------
    ValueError
        Shapes differ, fewer than 3 brains, or a number is not finite.
    """
    reference, codes = checked_rows(reference, "reference"), checked_rows(codes, "codes")
    if reference.shape != codes.shape or len(codes) < 3:
        raise ValueError(
            f"reference {reference.shape} and codes {codes.shape} must be of the same brains, at "
            "least 3, and have equally many latents"
        )
    correlation = _units(reference).T @ _units(codes)
    rows, order = linear_sum_assignment(-np.abs(correlation))
    pairs = correlation[rows, order]
    return Matching(order, np.where(pairs < 0, -1, 1), np.minimum(np.abs(pairs), 1.0))


def matching_null(reference: np.ndarray, codes: np.ndarray, n: int, seed: int) -> np.ndarray:
    """``|r|`` of matched latents where the other fit's axes are random directions of its own space.

    What two fits share anyway is the space that their codes span; axes come back where ``|r|``
    exceeds what any axes of that space would give.

    Parameters
    ----------
    reference, codes : ndarray, shape (n_brains, latent_dim)
        As for :func:`match_latents`.
    n : int
        Rotations of the whitened codes.
    seed : int
        Of the first; the others follow.

    Returns
    -------
    ndarray, shape (n, latent_dim)
    """
    codes = checked_rows(codes, "codes")
    left, size, _ = np.linalg.svd(codes - codes.mean(axis=0), full_matrices=False)
    white = left[:, size > 1e-9 * size.max()]
    missing = np.zeros((len(codes), codes.shape[1] - white.shape[1]))
    rng, size = np.random.default_rng(seed), white.shape[1]
    found = []
    for _ in range(n):
        # SciPy 1.14 draws no rotation of one axis.
        turn = ortho_group.rvs(size, random_state=rng) if size > 1 else np.eye(size)
        found.append(match_latents(reference, np.hstack([white @ turn, missing])).correlation)
    return np.stack(found)


def _units(codes: np.ndarray) -> np.ndarray:
    """Centred columns of length 1; those that do not vary are 0."""
    centred = codes - codes.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    rounding = 1e-9 * len(codes) ** 0.5 * np.abs(codes).max(axis=0)
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > rounding)
