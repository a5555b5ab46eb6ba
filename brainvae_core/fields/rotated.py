"""One model along other axes of its own latent space: what its axes by themselves are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from brainvae_core.fields.independence import checked_active
from brainvae_core.fields.receptive import encoded, random_axes


class Rotated:
    """A model whose latents are random directions of another model's latents.

    Codes are whitened over some brains (posterior variance included), so that a latent's unit is
    its standard deviation over brains, and turned by a rotation drawn uniformly. It encodes and
    decodes the same images as the model does: whatever is found of its latents is a property of
    the space and not of the axes that the model found.

    Parameters
    ----------
    model
        Anything with ``encode`` and ``decode``.
    images : ndarray, shape (n_brains, height, width)
        Brains whose codes are to be white.
    seed : int
        Of the rotation.
    active : ndarray of bool, shape (latent_dim,), optional
        Latents to turn; the others stay at their mean and are no longer latents.
    variance_floor : float
        Least variance of a direction, squared latent units.
    """

    def __init__(self, model, images, seed, active=None, variance_floor=1e-4):
        means, variances = encoded(model, np.asarray(images, dtype=np.float32))
        self._model, self._centre = model, means.mean(axis=0, dtype=np.float64)
        self._kept = checked_active(active, means.shape[1])
        kept = means[:, self._kept], variances[:, self._kept]
        self._turn = random_axes(*kept, variance_floor, seed)
        self._back = np.linalg.inv(self._turn)
        if hasattr(model, "posterior"):
            self.posterior = self._posterior

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Codes of images along the new axes, (n, n_active)."""
        return self._turned(np.asarray(self._model.encode(images), dtype=np.float64))

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Images of codes along the new axes."""
        codes = np.tile(self._centre, (len(z), 1))
        codes[:, self._kept] += np.asarray(z, dtype=np.float64) @ self._back
        return self._model.decode(codes.astype(np.float32))

    def _posterior(self, images):
        mean, std = self._model.posterior(images)
        variance = np.square(np.asarray(std, dtype=np.float64))[:, self._kept] @ self._turn**2
        return self._turned(np.asarray(mean, dtype=np.float64)), np.sqrt(variance)

    def _turned(self, codes):
        return ((codes - self._centre)[:, self._kept] @ self._turn).astype(np.float32)


def rotated_fits(
    models: Mapping[str, Sequence],
    images: np.ndarray,
    actives: Mapping[str, Sequence[np.ndarray]],
    n: int = 1,
) -> dict[str, list[Rotated]]:
    """Every fit of every model along n random axes each.

    Parameters
    ----------
    models : mapping of str to sequence of models
    images : ndarray, shape (n_brains, height, width)
    actives : mapping of str to sequence of ndarray of bool
        Active latents of each fit.
    n : int
        Rotations, with the seeds from 0.

    Returns
    -------
    dict of str to list of Rotated
        Named as the models are, with ", random axes".
    """
    return {
        f"{name}, random axes": [
            Rotated(model, images, seed, active)
            for model, active in zip(fits, actives[name], strict=True)
            for seed in range(n)
        ]
        for name, fits in models.items()
    }
