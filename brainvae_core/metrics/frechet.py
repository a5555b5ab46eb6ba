"""Fréchet distance between two sets of images, in a basis of principal components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brainvae_core.metrics.checks import checked_images, checked_rows

BLOCK = 2**22  # numbers held in float64 at once


@dataclass(frozen=True, eq=False, repr=False)
class PCABasis:
    """Orthonormal principal components of a set of images.

    Attributes
    ----------
    mean : ndarray of float64, shape (height, width)
    components : ndarray of float64, shape (d, height, width)
        Unit length, mutually orthogonal, the one with most variance first. The first of them are
        themselves the smaller basis.
    """

    mean: np.ndarray
    components: np.ndarray

    def project(self, images: np.ndarray) -> np.ndarray:
        """Scores of images (n, height, width) in this basis, (n, d) float64."""
        images = np.asarray(images)
        if images.ndim != 3 or images.shape[1:] != self.mean.shape:
            raise ValueError(
                f"images are {images.shape} and this basis is of (n, {self.mean.shape[0]}, "
                f"{self.mean.shape[1]}); give images of the size it was made from"
            )
        images = checked_images(images, "images")
        flat = self.components.reshape(len(self.components), -1)
        step = max(1, BLOCK // self.mean.size)
        scores = np.empty((len(images), len(flat)))
        for start in range(0, len(images), step):
            centred = images[start : start + step] - self.mean
            scores[start : start + step] = centred.reshape(len(centred), -1) @ flat.T
        return scores


def pca_basis(images: np.ndarray, d: int) -> PCABasis:
    """The first ``d`` principal components of images, exactly.

    To judge a PCA model, take brains that it was *not* fitted to: in its own basis its
    reconstructions would be at distance 0.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
    d : int
        At most n − 1.

    Returns
    -------
    PCABasis

    Raises
    ------
    ValueError
        ``d`` is more than the images span, or a pixel is not finite.
    """
    images = np.asarray(images)
    if images.ndim != 3 or len(images) < 2:
        raise ValueError(f"images are {images.shape}; a basis needs (n, height, width), n ≥ 2")
    n, *shape = images.shape
    if d not in range(1, n):
        raise ValueError(f"d = {d} components of {n} images; 1 to {n - 1} are possible")
    if not np.isfinite(images).all():
        raise ValueError("images of the basis have pixels that are not finite; leave those out")
    flat = images.reshape(n, -1)
    mean = flat.mean(axis=0, dtype=np.float64)
    step = max(1, BLOCK // n)
    blocks = [slice(start, start + step) for start in range(0, mean.size, step)]
    gram = np.zeros((n, n))
    for block in blocks:
        centred = flat[:, block] - mean[block]
        gram += centred @ centred.T
    variance, vectors = np.linalg.eigh(gram)
    variance, vectors = variance[::-1], vectors[:, ::-1]
    rank = int((variance > variance[0] * n * np.finfo(float).eps).sum())
    if d > rank:
        raise ValueError(
            f"d = {d} components, but the {n} images span only {rank}; are some of them equal?"
        )
    weights = (vectors[:, :d] / np.sqrt(variance[:d])).T
    components = np.empty((d, mean.size))
    for block in blocks:
        components[:, block] = weights @ (flat[:, block] - mean[block])
    return PCABasis(mean.reshape(shape), components.reshape(d, *shape))


def frechet_distance(scores_a: np.ndarray, scores_b: np.ndarray) -> float:
    """Squared 2-Wasserstein distance between Gaussians fitted to two samples.

    ``‖μ_a − μ_b‖² + tr Σ_a + tr Σ_b − 2 tr (Σ_a Σ_b)^½``. The last trace is the nuclear norm of
    R_a R_bᵀ, with R the triangular factor of the centred scores / √(n − 1): no matrix square
    root, so singular covariances (n ≤ d) are as good as others.

    Its expectation falls as n grows: compare values of one n, beside real against real.

    Parameters
    ----------
    scores_a, scores_b : ndarray, shape (n_a, d) and (n_b, d)

    Returns
    -------
    float
        In squared units of the scores; 0 for a sample and itself.

    Raises
    ------
    ValueError
        Different d, fewer than two rows, or a score that is not finite.

    References
    ----------
    Dowson, Landau (1982), J. Multivariate Anal. 12:450.
    """
    a, b = checked_rows(scores_a, "scores_a"), checked_rows(scores_b, "scores_b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"scores_a {a.shape} and scores_b {b.shape} must have one number of columns; "
            "rows are samples and columns are dimensions"
        )
    factor_a, factor_b = _covariance_factor(a), _covariance_factor(b)
    shift = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    spread = np.square(factor_a).sum() + np.square(factor_b).sum()
    overlap = np.linalg.norm(factor_a @ factor_b.T, "nuc")
    return max(float(shift + spread - 2 * overlap), 0.0)


def pca_frechet_distance(basis: PCABasis, real: np.ndarray, generated: np.ndarray) -> float:
    """Fréchet distance between two sets of images in a PCA basis.

    Parameters
    ----------
    basis : PCABasis
        From brains that are in neither set (`pca_basis`).
    real, generated : ndarray, shape (n, height, width)
        Held-out brains, and as many images of a model: samples of its prior, or reconstructions
        of *other* brains than the real side's.

    Returns
    -------
    float
        In squared grey values summed over pixels.

    Raises
    ------
    ValueError
        The two sets have different sizes, or do not fit the basis.
    """
    return float(frechet_profile(basis, real, generated, [len(basis.components)])[0])


def frechet_profile(
    basis: PCABasis, real: np.ndarray, generated: np.ndarray, dims: Sequence[int]
) -> np.ndarray:
    """`pca_frechet_distance` in the first ``dims`` components of a basis.

    Parameters
    ----------
    basis, real, generated
        As for `pca_frechet_distance`.
    dims : sequence of int
        Numbers of components, each at most the basis's own d.

    Returns
    -------
    ndarray of float64, shape (len(dims),)
    """
    if len(real) != len(generated):
        raise ValueError(
            f"{len(real)} real and {len(generated)} generated images; the distance falls as n "
            "grows, so give equally many of both"
        )
    largest = len(basis.components)
    if unfit := [d for d in dims if d not in range(1, largest + 1)]:
        raise ValueError(f"dims {unfit} are not in this basis; 1 to {largest} are")
    a, b = basis.project(real), basis.project(generated)
    return np.array([frechet_distance(a[:, :d], b[:, :d]) for d in dims])


def _covariance_factor(scores: np.ndarray) -> np.ndarray:
    """R, (min(n, d), d), with RᵀR the sample covariance."""
    centred = (scores - scores.mean(axis=0)) / np.sqrt(len(scores) - 1)
    return np.linalg.qr(centred, mode="r")
