"""How probable held-out brains are under a model: bounds of log p(x), all constants in."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from brainvae_core.metrics.checks import checked_images

CHUNK_PIXELS = 2**22  # decoded at once
SIGMA_FLOOR = 1e-3  # grey values


class Bound(NamedTuple):
    """Lower bounds of log p(x), one number a brain, nats per image.

    Attributes
    ----------
    elbo : ndarray of float64, shape (n,)
        Mean of the log weights: the bound that a VAE is trained on, at β = 1.
    importance_weighted : ndarray of float64, shape (n,)
        Logarithm of the weights' mean: at least the ELBO, and log p(x) for infinitely many samples.
    effective_samples : ndarray of float64, shape (n,)
        (Σ w)² / Σ w²: near 1, a single sample decides; near ``n_samples``, the bound is tight.
    """

    elbo: np.ndarray
    importance_weighted: np.ndarray
    effective_samples: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """What the importance-weighted bound gains on the ELBO, (n,)."""
        return self.importance_weighted - self.elbo


def likelihood_bound(model, images: np.ndarray, sigma, n_samples: int = 64, seed: int = 0) -> Bound:
    """ELBO and importance-weighted bound (Burda et al. 2016) under a Gaussian likelihood.

    ``log w = log N(x; decode(z), σ²) + log N(z; 0, I) − log N(z; mean, std²)`` with z from the
    model's posterior, every constant included (of P pixels, ``−P/2 log 2π − Σ log σ``), so that
    models of any kind stand on one axis, and beside the exact ``log_likelihood`` of a linear one.

    Parameters
    ----------
    model
        Anything with ``posterior(images) -> mean, std``, each (n, latent_dim), and ``decode(z)``.
    images : ndarray, shape (n, height, width)
    sigma : float or ndarray, shape (height, width)
        Standard deviation of the pixels' noise, grey values. A model that was fitted with another
        likelihood, or with a σ that was set by hand, is given its best by `fitted_sigma`.
    n_samples, seed : int
        Samples of z a brain, and their seed.
    """
    images = checked_images(images, "images")
    n, *shape = images.shape
    sigma = _checked_sigma(sigma, tuple(shape))
    if n_samples < 1:
        raise ValueError(f"n_samples={n_samples}: a bound needs at least 1 sample")
    mean, std = _posterior(model, images)
    noise = np.random.default_rng(seed).standard_normal((n, n_samples, mean.shape[1]))
    z = mean[:, np.newaxis] + std[:, np.newaxis] * noise
    of_z = 0.5 * (np.square(noise) - np.square(z)).sum(axis=2) + np.log(std).sum(axis=1)[:, None]
    constant = np.log(sigma).sum() + 0.5 * sigma.size * math.log(2 * math.pi)
    log_weights = of_z - constant
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


def fitted_sigma(
    model, images: np.ndarray, per_pixel: bool = False, seed: int = 0
) -> float | np.ndarray:
    """The σ that makes images most probable, at one sample of the posterior a brain.

    Root mean square of x − decode(z), grey values, of brains that the bound will not be computed
    on: one number or, as factor analysis has it, one ``per_pixel`` (height, width). At least 0.001,
    since a pixel that is black in every brain would make any other brain impossible.

    Parameters
    ----------
    model, images, seed
        As for `likelihood_bound`.
    per_pixel : bool
    """
    images = checked_images(images, "images")
    mean, std = _posterior(model, images)
    z = mean + std * np.random.default_rng(seed).standard_normal(mean.shape)
    squares, step = np.zeros(images.shape[1:]), max(1, CHUNK_PIXELS // images[0].size)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        rest = images[part] - model.decode(z[part].astype(np.float32)).astype(np.float64)
        squares += np.square(rest).sum(axis=0)
    variance = squares / len(images) if per_pixel else squares.mean() / len(images)
    if not np.isfinite(variance).all():
        raise ValueError("the model's posterior or its decoded images are not finite")
    sigma = np.maximum(np.sqrt(variance), SIGMA_FLOOR)
    return sigma if per_pixel else float(sigma)


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


def _checked_sigma(sigma, shape) -> np.ndarray:
    sigma = np.asarray(sigma, dtype=np.float64)
    if sigma.shape not in ((), shape):
        raise ValueError(f"sigma is {sigma.shape}; it must be one number or {shape}")
    if not (np.isfinite(sigma).all() and (sigma > 0).all()):
        raise ValueError("sigma must be positive and finite in every pixel")
    return np.broadcast_to(sigma, shape)
