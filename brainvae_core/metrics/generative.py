"""A model as a source of brains: its images beside real ones, and how probable brains are."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from brainvae_core.metrics.checks import (
    check_columns,
    check_one_shape,
    checked_images,
    checked_rows,
)

BLOCK = 2**22  # numbers held in float64 at once
CHUNK_PIXELS = 2**22  # decoded at once
SIGMA_FLOOR = 1e-3  # grey values


@dataclass(frozen=True, eq=False, repr=False)
class PCABasis:
    """Principal components (d, height, width) about a mean, most variance first, float64."""

    mean: np.ndarray
    components: np.ndarray

    def project(self, images: np.ndarray) -> np.ndarray:
        """Scores of images (n, height, width) in this basis, (n, d) float64."""
        images = checked_images(images, "images", "answers")
        check_one_shape(**{"the basis": self.mean, "an image": images[0]})
        flat = self.components.reshape(len(self.components), -1)
        step = max(1, BLOCK // self.mean.size)
        scores = np.empty((len(images), len(flat)))
        for start in range(0, len(images), step):
            centred = images[start : start + step] - self.mean
            scores[start : start + step] = centred.reshape(len(centred), -1) @ flat.T
        return scores


def pca_basis(images: np.ndarray, d: int) -> PCABasis:
    """The first ``d`` principal components of images (n, height, width), exactly; d < n.

    Not of the brains that a PCA to be judged was fitted to: its distance would be 0.
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
    """Squared 2-Wasserstein distance between Gaussians fitted to samples (n_a, d) and (n_b, d).

    ``‖μ_a − μ_b‖² + tr Σ_a + tr Σ_b − 2 tr (Σ_a Σ_b)^½`` (Dowson, Landau 1982). The last trace is
    the nuclear norm of R_a R_bᵀ, with R the triangular factor of the centred scores / √(n − 1): no
    matrix square root, so singular covariances (n ≤ d) are as good as others. Its expectation
    falls as n grows: compare values of one n, beside real against real.
    """
    a, b = checked_rows(scores_a, "scores_a"), checked_rows(scores_b, "scores_b")
    check_columns(scores_a=a, scores_b=b)
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
    basis, real, generated : PCABasis and ndarray, shape (n, height, width)
        From brains that are in neither set; held-out brains, and as many images of a model:
        samples, or reconstructions of *other* brains.
    """
    if len(real) != len(generated):
        raise ValueError(
            f"{len(real)} real and {len(generated)} generated images; the distance falls as n "
            "grows, so give equally many of both"
        )
    real = checked_images(real, "real")
    return frechet_distance(basis.project(real), basis.project(generated))


def aggregate_codes(model, images: np.ndarray, n: int) -> np.ndarray:
    """Codes (n, latent_dim) from the aggregate posterior: of brains drawn at random.

    Parameters
    ----------
    model, images, n
        With ``posterior(images) -> mean, std``, which is sampled, or else ``encode``; training
        brains (n_brains, height, width) to draw from with replacement, and how many.
    """
    images = checked_images(images, "images")
    if n < 1:
        raise ValueError(f"n={n}: draw at least 1 code")
    rng = np.random.default_rng(0)
    drawn = images[rng.integers(len(images), size=n)]
    if not hasattr(model, "posterior"):
        return model.encode(drawn)
    mean, std = model.posterior(drawn)
    return (mean + std * rng.standard_normal(np.shape(mean))).astype(np.float32)


def generated_scores(model, basis: PCABasis, others: np.ndarray, train: np.ndarray) -> dict:
    """A model's images in a basis, by kind, each (n, d) float64 in grey values.

    ``"reconstructions"`` are of ``others``; as many samples are ``"aggregate posterior"`` and,
    where there is one, ``"prior samples"``.

    Parameters
    ----------
    model, basis
        Anything with ``encode`` and ``decode``. Where its codes are not to follow N(0, I), so that
        there are no ``"prior samples"``, its ``has_prior`` is False.
    others, train : ndarray, shape (n, height, width)
        Held-out brains to reconstruct, not those of the real side; of `aggregate_codes`.
    """
    others = checked_images(others, "others")
    codes = {
        "reconstructions": model.encode(others),
        "aggregate posterior": aggregate_codes(model, train, len(others)),
    }
    if getattr(model, "has_prior", True):
        shape = np.shape(codes["reconstructions"])
        prior = np.random.default_rng(0).standard_normal(shape)
        codes["prior samples"] = prior.astype(np.float32)
    return {kind: basis.project(model.decode(z)) for kind, z in codes.items()}


class Bound(NamedTuple):
    """Lower bounds of log p(x), nats per image, (n,) each.

    ``elbo`` is the mean of the log weights, ``importance_weighted`` the logarithm of the weights'
    mean: log p(x) for infinitely many. ``effective_samples`` = (Σ w)² / Σ w²: near 1, a single
    sample decides; near ``n_samples``, the bound is tight.
    """

    elbo: np.ndarray
    importance_weighted: np.ndarray
    effective_samples: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """What the importance-weighted bound gains on the ELBO, (n,)."""
        return self.importance_weighted - self.elbo


def likelihood_bound(model, images: np.ndarray, sigma: float, n_samples: int) -> Bound:
    """ELBO and importance-weighted bound (Burda et al. 2016) under a Gaussian likelihood.

    ``log w = log N(x; decode(z), σ²) + log N(z; 0, I) − log N(z; mean, std²)`` with z from the
    model's posterior, every constant included, so that models of any kind stand on one axis.

    Parameters
    ----------
    model, images
        With ``posterior(images) -> mean, std``, each (n, latent_dim), and ``decode(z)``.
    sigma : float
        Standard deviation of the pixels' noise, grey values; `fitted_sigma` is a model's best.
    n_samples : int
        Of z, a brain.
    """
    images = checked_images(images, "images", None)
    n, *shape = images.shape
    if not 0 < sigma < np.inf:
        raise ValueError(f"sigma={sigma:g} must be positive and finite")
    sigma = np.full(shape, sigma, dtype=np.float64)
    if n_samples < 1:
        raise ValueError(f"n_samples={n_samples}: a bound needs at least 1 sample")
    mean, std = _posterior(model, images)
    noise = np.random.default_rng(0).standard_normal((n, n_samples, mean.shape[1]))
    z = mean[:, np.newaxis] + std[:, np.newaxis] * noise
    of_z = 0.5 * (np.square(noise) - np.square(z)).sum(axis=2) + np.log(std).sum(axis=1)[:, None]
    log_weights = of_z - (np.log(sigma).sum() + 0.5 * sigma.size * math.log(2 * math.pi))
    step = max(1, CHUNK_PIXELS // (n_samples * sigma.size))
    for start in range(0, n, step):
        part = slice(start, start + step)
        decoded = model.decode(z[part].reshape(-1, mean.shape[1]).astype(np.float32))
        decoded = decoded.reshape(-1, n_samples, *shape)
        for i, (image, samples) in enumerate(zip(images[part], decoded, strict=True)):
            scaled = (samples - image) / sigma
            log_weights[start + i] -= 0.5 * np.einsum("khw,khw->k", scaled, scaled)
    if not np.isfinite(log_weights).all():
        raise ValueError("the model's posterior or its decoded images are not finite")
    return Bound(
        log_weights.mean(axis=1),
        logsumexp(log_weights, axis=1) - math.log(n_samples),
        np.exp(2 * logsumexp(log_weights, axis=1) - logsumexp(2 * log_weights, axis=1)),
    )


def fitted_sigma(model, images: np.ndarray) -> float:
    """The σ that makes images most probable: root mean square of x − decode(z), grey values.

    Model and images are as for `likelihood_bound`, but other brains. At least 0.001, since a model
    that answers every pixel exactly would make any other brain impossible.
    """
    images = checked_images(images, "images", None)
    mean, std = _posterior(model, images)
    z = mean + std * np.random.default_rng(0).standard_normal(mean.shape)
    squares, step = np.zeros(images.shape[1:]), max(1, CHUNK_PIXELS // images[0].size)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        rest = images[part] - model.decode(z[part].astype(np.float32)).astype(np.float64)
        squares += np.square(rest).sum(axis=0)
    variance = squares.mean() / len(images)
    if not np.isfinite(variance):
        raise ValueError("the model's posterior or its decoded images are not finite")
    return float(np.maximum(np.sqrt(variance), SIGMA_FLOOR))


def _posterior(model, images) -> tuple[np.ndarray, np.ndarray]:
    mean, std = (np.asarray(part, dtype=np.float64) for part in model.posterior(images))
    if mean.ndim != 2 or len(mean) != len(images) or std.shape != mean.shape:
        raise ValueError(
            f"the model's posterior of {len(images)} images has a mean of {mean.shape} and a std "
            f"of {std.shape}; each must be (n, latent_dim)"
        )
    if (std <= 0).any():
        raise ValueError("a posterior's std must be positive; is it a logarithm of the variance?")
    return mean, std
