"""Codes to decode where a model is to invent brains."""

from __future__ import annotations

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
