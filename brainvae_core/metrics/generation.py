"""Images that a model invents, as scores in a basis beside those of real brains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from brainvae_core.metrics.checks import checked_images
from brainvae_core.metrics.uncertainty import in_each


def aggregate_codes(model, images: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Codes from the aggregate posterior: of brains drawn at random, with their uncertainty.

    Where codes are wider or narrower than the prior, samples of the prior are none of the model's
    brains; these are.

    Parameters
    ----------
    model
        Anything with ``encode(images)``; where it has ``posterior(images) -> mean, std``, a sample
        of it is drawn for every brain.
    images : ndarray, shape (n_brains, height, width)
        Training brains; drawn with replacement.
    n : int
    seed : int

    Returns
    -------
    ndarray of float32, shape (n, latent_dim)

    Raises
    ------
    ValueError
        No images, an image that is not finite, or fewer than 1 code.
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


def generated_scores(model, basis, others: np.ndarray, train: np.ndarray, seed: int = 0) -> dict:
    """A model's images in a basis: reconstructions, and samples of two kinds, as many of each.

    Parameters
    ----------
    model
        Anything with ``encode``, ``decode`` and ``latent_dim``.
    basis : PCABasis
    others : ndarray, shape (n, height, width)
        Held-out brains to reconstruct, not those of the real side.
    train : ndarray, shape (n_train, height, width)
        Whose codes are the aggregate posterior's.
    seed : int

    Returns
    -------
    dict of str to ndarray, each (n, d)
        ``"reconstructions"``; ``"prior samples"`` of N(0, I); ``"aggregate posterior"``.
    """
    prior = np.random.default_rng(seed).standard_normal((len(others), model.latent_dim))
    codes = {
        "reconstructions": model.encode(others),
        "prior samples": prior.astype(np.float32),
        "aggregate posterior": aggregate_codes(model, train, len(others), seed),
    }
    return {kind: basis.project(model.decode(z)) for kind, z in codes.items()}


def beside(real: np.ndarray, generated: Mapping) -> dict[str, dict]:
    """Generated scores beside the real ones, as `jackknife` takes them, regrouped by kind.

    Parameters
    ----------
    real : ndarray, shape (n, d)
    generated : mapping of anything to sequence of `generated_scores`, or such a mapping
        A sequence a model, an entry a fit.

    Returns
    -------
    dict of str to dict
        By kind; below it the keys of ``generated``, and a list of (real, generated), one a fit.
    """
    kinds = ("reconstructions", "prior samples", "aggregate posterior")
    return {
        kind: in_each(generated, lambda fits, kind=kind: [(real, f[kind]) for f in fits])
        for kind in kinds
    }
