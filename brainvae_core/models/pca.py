"""Exact PCA of a cohort's sections by one Gram matrix."""

from __future__ import annotations

import numpy as np

from brainvae_core.models.arrays import checked_codes, checked_images, checked_latent_dim


class PCA:
    """Principal components with codes of unit variance.

    Parameters
    ----------
    mean : ndarray, shape (height, width)
        The training brains' mean section.
    components : ndarray, shape (latent_dim, height, width)
        Orthonormal over pixels, in order of falling variance.
    variances : ndarray, shape (latent_dim,)
        The training codes' variances before they are divided out (n − 1 in the denominator).

    Notes
    -----
    Codes are divided by √variance, so that a step along a latent means a standard deviation here
    as it does for a VAE's prior. There is no posterior: a code is a point.
    """

    def __init__(self, mean, components, variances):
        self.mean = np.ascontiguousarray(mean, dtype=np.float32)
        self.components = np.ascontiguousarray(components, dtype=np.float32)
        self.variances = np.ascontiguousarray(variances, dtype=np.float32)
        self.latent_dim, self.image_shape = len(self.components), self.mean.shape

    @classmethod
    def fit(cls, images: np.ndarray, latent_dim: int) -> PCA:
        """The first ``latent_dim`` components of images (n, height, width).

        Raises
        ------
        ValueError
            Fewer than ``latent_dim + 1`` images, or fewer directions in which they differ.
        """
        images = checked_images(images, np.shape(images)[1:])
        n = len(images)
        checked_latent_dim(latent_dim, n, n - 1, "components")
        mean = images.mean(axis=0, dtype=np.float64).astype(np.float32)
        flat = (images - mean).reshape(n, -1)
        # n × n instead of pixels × pixels: the eigenvectors of one give those of the other.
        eigenvalues, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64))
        eigenvalues, vectors = eigenvalues[::-1][:latent_dim], vectors[:, ::-1][:, :latent_dim]
        if eigenvalues[-1] <= 1e-6 * max(eigenvalues[0], 1e-12):
            rank = int((eigenvalues > 1e-6 * max(eigenvalues[0], 1e-12)).sum())
            raise ValueError(
                f"latent_dim={latent_dim}: these {n} images differ in only {rank} directions"
            )
        components = with_fixed_signs((vectors / np.sqrt(eigenvalues)).T.astype(np.float32) @ flat)
        return cls(mean, components.reshape(latent_dim, *mean.shape), eigenvalues / (n - 1))

    def truncated(self, latent_dim: int) -> PCA:
        """The same fit with fewer components."""
        if not 1 <= latent_dim <= self.latent_dim:
            raise ValueError(f"latent_dim={latent_dim}: this fit has 1 to {self.latent_dim}")
        return PCA(self.mean, self.components[:latent_dim], self.variances[:latent_dim])

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Codes of images (n, height, width), (n, latent_dim) float32, standard deviations."""
        images = checked_images(images, self.image_shape)
        scores = (images - self.mean).reshape(-1, self.mean.size) @ self._flat.T
        return scores / np.sqrt(self.variances)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Images of codes (n, latent_dim), (n, height, width) float32, not clipped to [0, 1]."""
        scores = checked_codes(z, self.latent_dim) * np.sqrt(self.variances)
        return self.mean + (scores @ self._flat).reshape(-1, *self.image_shape)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """``decode(encode(images))``: the projection on mean + components."""
        return self.decode(self.encode(images))

    def tensors(self) -> dict[str, np.ndarray]:
        """What is kept on disk, by name."""
        return {"mean": self.mean, "components": self.components, "variances": self.variances}

    @property
    def _flat(self):
        return self.components.reshape(self.latent_dim, -1)


def with_fixed_signs(rows: np.ndarray) -> np.ndarray:
    """Eigenvectors (latent_dim, pixels) whose largest entries are positive.

    The sign of an eigenvector is arbitrary; this one is the same on every machine.
    """
    largest = np.abs(rows).argmax(axis=1)
    return rows * np.sign(rows[np.arange(len(rows)), largest])[:, None]
