"""On which side of a latent unusual brains lie, though a latent's sign means nothing."""

from __future__ import annotations

import numpy as np
from scipy.stats import binom

from brainvae_core.metrics.checks import checked_rows


def tail_counts(clean: np.ndarray, unusual: np.ndarray, level: float = 0.95) -> np.ndarray:
    """How many brains lie beyond the clean brains' middle, on either side of each latent.

    Parameters
    ----------
    clean : ndarray, shape (n_clean, latent_dim)
        Codes of clean brains, which set the limits.
    unusual : ndarray, shape (n, latent_dim)
        Codes of the brains in question, such as those with artefacts.
    level : float
        Share of the clean brains between the two limits.

    Returns
    -------
    ndarray of int, shape (latent_dim, 2)
        Below and above.

    Raises
    ------
    ValueError
        Numbers of latents differ, a number is not finite, or the level is outside (0, 1).
    """
    clean, unusual = checked_rows(clean, "clean"), checked_rows(unusual, "unusual", least=1)
    if clean.shape[1] != unusual.shape[1] or not 0 < level < 1:
        raise ValueError(
            f"clean {clean.shape} and unusual {unusual.shape} must have equally many latents, and "
            f"level={level} lie between 0 and 1"
        )
    low, high = np.quantile(clean, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.stack([(unusual < low).sum(axis=0), (unusual > high).sum(axis=0)], axis=1)


def sidedness(counts: np.ndarray) -> float:
    """How far unusual brains keep to one side of each latent, whichever it is.

    ``Σ |above − below| / Σ (above + below)`` over latents.

    Parameters
    ----------
    counts : ndarray, shape (latent_dim, 2)
        Of :func:`tail_counts`.

    Returns
    -------
    float
        1 where every latent has them in one tail, 0 where both tails hold as many or none lies in
        a tail. Chance is not 0 (see :func:`sidedness_null`).

    Raises
    ------
    ValueError
        Counts are not whole numbers from 0 of that shape.
    """
    counts = _checked(counts)
    total = counts.sum()
    return float(np.abs(counts[:, 1] - counts[:, 0]).sum() / total) if total else 0.0


def sidedness_null(counts: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Sidedness where every brain in a tail could as well be in the other, (n,).

    Parameters
    ----------
    counts : ndarray, shape (latent_dim, 2)
    n : int
        Draws.
    seed : int
        Of the random generator.
    """
    counts = _checked(counts)
    outside = counts.sum(axis=1)
    below = np.random.default_rng(seed).binomial(outside, 0.5, size=(n, len(outside)))
    if not outside.sum():
        return np.zeros(n)
    return np.abs(outside - 2 * below).sum(axis=1) / outside.sum()


def sidedness_beyond_chance(codes: np.ndarray, unusual: np.ndarray, level: float = 0.95) -> float:
    """How much more than by chance unusual brains keep to one side of each latent.

    Parameters
    ----------
    codes : ndarray, shape (n_brains, latent_dim)
    unusual : ndarray of bool, shape (n_brains,)
        Which of the brains; the others are the clean ones.
    level : float
        Share of the clean brains between the limits of :func:`tail_counts`.

    Returns
    -------
    float
        :func:`sidedness` less its expectation where sides are drawn at random; −1 to 1. Not quite
        0 on average where the brains in question are as the clean ones: limits that are quantiles
        of few clean brains are not equally far out on both sides (0.05 of 300 clean and 100
        others, 0.09 of 100 and 40).

    Raises
    ------
    ValueError
        As for :func:`tail_counts`, or none or all of the brains are unusual.
    """
    codes, unusual = checked_rows(codes, "codes"), np.asarray(unusual)
    if unusual.dtype != bool or unusual.shape != codes.shape[:1] or unusual.all() | ~unusual.any():
        raise ValueError(
            f"unusual is {unusual.dtype} of shape {unusual.shape}; give one bool a brain of "
            f"{len(codes)}, some of them true and some not"
        )
    counts = tail_counts(codes[~unusual], codes[unusual], level)
    outside = counts.sum(axis=1)
    if not outside.sum():
        return 0.0
    # E|n − 2B| of a binomial: the expected difference of two tails of n brains.
    expected = [
        np.abs(n - 2 * np.arange(n + 1)) @ binom.pmf(np.arange(n + 1), n, 0.5) for n in outside
    ]
    return sidedness(counts) - float(np.sum(expected) / outside.sum())


def _checked(counts) -> np.ndarray:
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[1] != 2 or counts.dtype.kind not in "iu":
        raise ValueError(
            f"counts {counts.shape} of {counts.dtype} must be whole numbers, (latent_dim, 2)"
        )
    if (counts < 0).any():
        raise ValueError("counts below 0 are no numbers of brains; pass tail_counts")
    return counts.astype(np.int64)
