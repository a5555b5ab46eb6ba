"""Images that a model invents, as scores in a basis beside those of real brains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from brainvae_core.metrics.checks import checked_images


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


def generated_scores(
    model, basis, others: np.ndarray, train: np.ndarray, has_prior: bool = True, seed: int = 0
) -> dict:
    """A model's images in a basis: reconstructions, and samples of two kinds, as many of each.

    Parameters
    ----------
    model
        Anything with ``encode`` and ``decode``.
    basis : PCABasis
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
        By kind; below it the keys of ``generated`` that have this kind, and a list of (real,
        generated), one a fit.
    """
    kinds = ("reconstructions", "prior samples", "aggregate posterior")
    return {kind: _of_kind(real, generated, kind) for kind in kinds}


def _of_kind(real, generated, kind) -> dict:
    found = {}
    for key, entry in generated.items():
        if isinstance(entry, Mapping):
            found[key] = _of_kind(real, entry, kind)
        elif kind in entry[0]:
            found[key] = [(real, fit[kind]) for fit in entry]
    return found
