"""Two sets of images in a basis of principal components: Fréchet distance, precision, recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from brainvae_core.metrics.checks import checked_images, checked_rows

BLOCK = 2**22  # numbers held in float64 at once


@dataclass(frozen=True, eq=False, repr=False)
class PCABasis:
    """Orthonormal principal components of a set of images.

    Attributes
    ----------
    mean : ndarray of float64, shape (height, width)
    components : ndarray of float64, shape (d, height, width)
        The one with most variance first; the first of them are themselves the smaller basis.
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
    """The first ``d`` principal components of images (n, height, width), exactly; d < n.

    To judge a PCA model, take brains that it was *not* fitted to: in its own basis its
    reconstructions would be at distance 0.
    """
    images = checked_images(images, "images")
    n, *shape = images.shape
    if d not in range(1, n):
        raise ValueError(f"d = {d} components of {n} images; 1 to {n - 1} are possible")
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

    ``‖μ_a − μ_b‖² + tr Σ_a + tr Σ_b − 2 tr (Σ_a Σ_b)^½`` (Dowson, Landau 1982). The last trace is
    the nuclear norm of R_a R_bᵀ, with R the triangular factor of the centred scores / √(n − 1): no
    matrix square root, so singular covariances (n ≤ d) are as good as others. Its expectation
    falls as n grows: compare values of one n, beside real against real.

    Parameters
    ----------
    scores_a, scores_b : ndarray, shape (n_a, d) and (n_b, d)

    Raises
    ------
    ValueError
        Different d, fewer than two rows, or a score that is not finite.
    """
    a, b = checked_rows(scores_a, "scores_a"), checked_rows(scores_b, "scores_b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"scores_a {a.shape} and scores_b {b.shape} must have one number of columns; "
            "rows are samples and columns are dimensions"
        )
    factor_a, factor_b = (
        np.linalg.qr((s - s.mean(axis=0)) / np.sqrt(len(s) - 1), mode="r") for s in (a, b)
    )
    shift = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    spread = np.square(factor_a).sum() + np.square(factor_b).sum()
    overlap = np.linalg.norm(factor_a @ factor_b.T, "nuc")
    return max(float(shift + spread - 2 * overlap), 0.0)


def pca_frechet_distance(basis: PCABasis, real: np.ndarray, generated: np.ndarray) -> float:
    """Fréchet distance between two sets of images in a PCA basis, squared grey values.

    Parameters
    ----------
    basis : PCABasis
        From brains that are in neither set.
    real, generated : ndarray, shape (n, height, width)
        Held-out brains, and as many images of a model: samples of its prior, or reconstructions
        of *other* brains than the real side's.
    """
    if len(real) != len(generated):
        raise ValueError(
            f"{len(real)} real and {len(generated)} generated images; the distance falls as n "
            "grows, so give equally many of both"
        )
    return frechet_distance(basis.project(real), basis.project(generated))


def sample_precision(real: np.ndarray, generated: np.ndarray, k: int = 3) -> float:
    """Share of generated images that lie among the real ones (Kynkäänniemi et al. 2019).

    That is within a ball around a real image that reaches to its k-th nearest real neighbour. 1 for
    a set and itself. Of two samples of one distribution it is well below 1 in many dimensions: show
    real against real beside it. Scores in a basis are (n, d), as many of
    each: the share grows with n.

    Parameters
    ----------
    real, generated : ndarray, shape (n, d)
    k : int
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
    real, generated, k
        As for `sample_precision`.
    """
    return sample_precision(generated, real, k)


def aggregate_codes(model, images: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Codes (n, latent_dim) from the aggregate posterior: of brains drawn at random.

    Where codes are wider or narrower than the prior, samples of the prior are none of the model's
    brains; these are. Where the model has ``posterior(images) -> mean, std``, a sample of it is
    drawn for every brain, else its ``encode`` answers.

    Parameters
    ----------
    model, images, n, seed
        A model, training brains (n_brains, height, width) to draw from with replacement, how many.
    """
    images = checked_images(images, "images")
    if n < 1:
        raise ValueError(f"n={n}: draw at least 1 code")
    rng = np.random.default_rng(seed)
    drawn = images[rng.integers(len(images), size=n)]
    if not hasattr(model, "posterior"):
        return model.encode(drawn)
    mean, std = model.posterior(drawn)
    return (mean + std * rng.standard_normal(np.shape(mean))).astype(np.float32)


def generated_scores(
    model, basis, others: np.ndarray, train: np.ndarray, has_prior: bool = True, seed: int = 0
) -> dict:
    """A model's images in a basis: reconstructions, and samples of two kinds, as many of each.

    Parameters
    ----------
    model, basis
        Anything with ``encode`` and ``decode``; a `PCABasis`.
    others : ndarray, shape (n, height, width)
        Held-out brains to reconstruct, not those of the real side.
    train : ndarray, shape (n_train, height, width)
        Whose codes are the aggregate posterior's.
    has_prior : bool
        Whether the model's codes are to follow N(0, I); where not, it has no samples of a prior.
    seed : int

    Returns
    -------
    dict of str to ndarray, each (n, d)
        ``"reconstructions"``; ``"prior samples"`` of N(0, I); ``"aggregate posterior"``.
    """
    codes = {
        "reconstructions": model.encode(others),
        "aggregate posterior": aggregate_codes(model, train, len(others), seed),
    }
    if has_prior:
        shape = np.shape(codes["reconstructions"])
        prior = np.random.default_rng(seed).standard_normal(shape)
        codes["prior samples"] = prior.astype(np.float32)
    return {kind: basis.project(model.decode(z)) for kind, z in codes.items()}
