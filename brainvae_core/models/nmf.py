"""Non-negative matrix factorisation: a brain as a sum of parts, none of which is taken away."""

from __future__ import annotations

import numpy as np

from brainvae_core.models.arrays import checked_codes, checked_images, checked_latent_dim

SWEEPS = 400  # of coordinate descent: 200 reach 0.3 % of the variance less, 1600 0.3 % more


class NMF:
    """Parts without negative pixels, and codes without negative entries.

    Parameters
    ----------
    components : ndarray, shape (latent_dim, height, width)
        What a step of one standard deviation of a latent's training codes adds, grey values.

    Notes
    -----
    There is no mean to add: a code of zeros is a black image, and codes of brains are centred on
    no zero. As for `PCA`, a step along a latent means a standard deviation over training brains.
    Parts differ with ``latent_dim``: unlike PCA's, the first of many are not those of a smaller
    fit. There is no posterior: a code is a point.
    """

    def __init__(self, components):
        self.components = np.ascontiguousarray(components, dtype=np.float32)
        self.latent_dim, self.image_shape = len(self.components), self.components.shape[1:]
        # Distances to a sum of parts are distances within the parts' span, plus a constant: the
        # least squares of an image need latent_dim equations instead of one a pixel.
        basis, self._parts = np.linalg.qr(self._flat.T.astype(np.float64))
        self._basis = basis.astype(np.float32)

    @classmethod
    def fit(cls, images: np.ndarray, latent_dim: int) -> NMF:
        """Parts of images (n, height, width) by scikit-learn's coordinate descent.

        From the NNDSVDa start, which is the same every time, a fixed number of sweeps, ``SWEEPS``:
        the gain falls off slowly, and no tolerance suits few and many latents.

        Raises
        ------
        ValueError
            A negative pixel, or more parts than ``n - 1`` or the pixels.
        """
        # Here, for who only trains needs no scikit-learn, and its import takes seconds.
        from sklearn.decomposition import NMF as Factorisation

        images = checked_images(images, np.shape(images)[1:])
        n, flat = len(images), images.reshape(len(images), -1)
        checked_latent_dim(latent_dim, n, min(n - 1, flat.shape[1]), "parts")
        if flat.min() < 0:
            first = np.flatnonzero((flat < 0).any(axis=1))[0]
            raise ValueError(
                f"image {first} of {n} has a negative pixel ({flat[first].min():.3g}); "
                "parts add up to greys of 0 and more: clip the images at 0"
            )
        if not flat.any():
            raise ValueError(f"these {n} images are black; there are no parts in them")
        factorisation = Factorisation(
            latent_dim, init="nndsvda", tol=0, max_iter=SWEEPS, random_state=0
        )
        factorisation.fit(flat)
        fit = cls(factorisation.components_.reshape(latent_dim, *images.shape[1:]))
        spread = fit.encode(images).std(axis=0, ddof=1, dtype=np.float64)
        spread[spread == 0] = 1  # a part of which every brain has as much
        return cls(fit.components * spread[:, None, None])

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Codes of images (n, height, width) by non-negative least squares, (n, latent_dim)."""
        from scipy.optimize import nnls  # here, for who only trains needs no SciPy

        images = checked_images(images, self.image_shape)
        targets = images.reshape(-1, self._flat.shape[1]) @ self._basis
        z = [nnls(self._parts, target, maxiter=100 * self.latent_dim)[0] for target in targets]
        return np.array(z, dtype=np.float32).reshape(-1, self.latent_dim)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Images of codes (n, latent_dim), (n, height, width) float32, not clipped to [0, 1].

        A negative entry, which no brain's code has, takes its part away.
        """
        z = checked_codes(z, self.latent_dim)
        return (z @ self._flat).reshape(-1, *self.image_shape)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """``decode(encode(images))``: the nearest image that is a sum of parts."""
        return self.decode(self.encode(images))

    def tensors(self) -> dict[str, np.ndarray]:
        """What is kept on disk, by name."""
        return {"components": self.components}

    @property
    def _flat(self):
        return self.components.reshape(self.latent_dim, -1)
