"""What a VAE must be better than: configurations of models that are fitted in one step.

They are kept as runs like a VAE. NMF, the mean image and the nearest brain are here, PCA and the
linear models with Gaussian noise in `linear`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from brainvae_core.models.devices import checked_codes, checked_images, checked_parts
from brainvae_core.models.linear import PCA, Arrays, LinearGaussian, checked_latent_dim
from brainvae_core.models.training import Fitted

SWEEPS = 400  # of coordinate descent: 200 reach 0.3 % of the variance less, 1600 0.3 % more


class NMF(Arrays):
    """Parts without negative pixels, and codes without negative entries.

    ``components`` (latent_dim, height, width) are what a step of one standard deviation of a
    latent's training codes adds, grey values. A code of zeros is a black image, and codes of brains
    are centred on no zero. Unlike PCA's, the first of many parts are not those of a smaller fit.
    """

    kept = ("components",)

    def __init__(self, components):
        self._keep(components)
        self.latent_dim, self.image_shape = len(self.components), self.components.shape[1:]
        self._flat = self.components.reshape(self.latent_dim, -1)
        # Distances to a sum of parts are distances within the parts' span, plus a constant: the
        # least squares of an image need latent_dim equations instead of one a pixel.
        basis, self._parts = np.linalg.qr(self._flat.T.astype(np.float64))
        self._basis = basis.astype(np.float32)

    @classmethod
    def fit(cls, images: np.ndarray, latent_dim: int) -> NMF:
        """Parts of images (n, height, width) by scikit-learn's coordinate descent.

        From the NNDSVDa start, which is the same every time, a fixed number of sweeps: the gain
        falls off slowly, and no tolerance suits few and many latents.
        """
        from sklearn.decomposition import NMF as Factorisation  # here: it takes seconds

        images = checked_images(images)
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
        parts = Factorisation(latent_dim, init="nndsvda", tol=0, max_iter=SWEEPS, random_state=0)
        parts.fit(flat)
        fit = cls(parts.components_.reshape(latent_dim, *images.shape[1:]))
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
        """Images of codes (n, latent_dim); a negative entry, which no brain has, takes away."""
        z = checked_codes(z, self.latent_dim)
        return (z @ self._flat).reshape(-1, *self.image_shape)


class MeanImage(Arrays):
    """The training brains' mean section (height, width), whatever the image; it has no latents."""

    kept, latent_dim = ("mean",), 0

    def __init__(self, mean):
        self._keep(mean)
        self.image_shape = self.mean.shape

    @classmethod
    def fit(cls, images: np.ndarray) -> MeanImage:
        """The mean of images (n, height, width)."""
        return cls(checked_images(images).mean(axis=0, dtype=np.float64))

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Nothing about images (n, height, width): (n, 0) float32."""
        return np.empty((len(checked_images(images, self.image_shape)), 0), dtype=np.float32)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """The mean image for every code (n, 0), (n, height, width) float32."""
        return np.tile(self.mean, (len(checked_codes(z, 0)), 1, 1))


class NearestBrain(Arrays):
    """The training brain that is nearest to an image, by squared distance over pixels.

    The training brains are kept whole, in memory and on disk. A code is a name, not a coordinate:
    the number of one of them, from 0. A step along this latent or its variance mean nothing.
    """

    kept, latent_dim = ("images",), 1

    def __init__(self, images):
        self._keep(images)
        self.image_shape = self.images.shape[1:]
        self._mean = self.images.mean(axis=0, dtype=np.float64).astype(np.float32)
        # Brain by brain: all deviations at once would be the cohort a second time.
        self._spread = np.array(
            [np.square(image - self._mean).sum(dtype=np.float64) for image in self.images]
        )

    @classmethod
    def fit(cls, images: np.ndarray) -> NearestBrain:
        """The brains of images (n, height, width)."""
        return cls(checked_images(images))

    def encode(self, images: np.ndarray) -> np.ndarray:
        """The nearest training brain's number for images (n, height, width), (n, 1) float32."""
        images = checked_images(images, self.image_shape)
        # ‖x − b‖² = ‖b − m‖² − 2 (x − m)·b + what is equal for every b. From the mean m, because
        # brains are so alike that distances from black would drown in their rounding.
        deviations = (images - self._mean).reshape(-1, self._mean.size)
        products = deviations @ self.images.reshape(len(self.images), -1).T
        return (self._spread - 2 * products).argmin(axis=1)[:, None].astype(np.float32)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """The training brains of codes (n, 1), rounded to a number; ValueError of none."""
        numbers = np.rint(checked_codes(z, 1)[:, 0])
        wrong = numbers[(numbers < 0) | (numbers >= len(self.images))]
        if len(wrong):
            last = len(self.images) - 1
            raise ValueError(f"code {wrong[0]:.0f} names no training brain; codes are 0 to {last}")
        return self.images[numbers.astype(int)]


# ---- configurations: what is fitted in one step ----


@dataclass(frozen=True)
class Baseline:
    """What every baseline's configuration has: its ``kind``, ``model`` and ``latent_dim``."""

    @property
    def label(self) -> str:
        """The beginning of the run's name."""
        return self.kind

    @classmethod
    def models(cls, configs: Sequence, images: np.ndarray) -> Iterable:
        """The model of each configuration, fitted to images (n, height, width)."""
        return (cls.model.fit(images, *astuple(config)) for config in configs)

    @classmethod
    def fit_together(cls, configs, train, validation, **_) -> list[Fitted]:
        """Every configuration's model with its held-out explained variance."""
        train, validation = checked_parts(np.asarray(train), np.asarray(validation))
        total = np.square(validation - validation.mean(0)).sum(dtype=np.float64)
        fitted = []
        for config, model in zip(configs, cls.models(configs, train), strict=True):
            residual = np.square(model.reconstruct(validation) - validation).sum(dtype=np.float64)
            row = {"step": 0, "explained_variance": 1 - residual / total}
            fitted.append(Fitted(model, [row | {"active_latents": config.latent_dim}]))
        return fitted

    def restore(self, tensors: dict[str, np.ndarray]):
        """The model whose ``tensors()`` these are."""
        return self.model(**tensors)


@dataclass(frozen=True)
class WithLatents(Baseline):
    """A baseline whose ``latent_dim`` is chosen."""

    latent_dim: int = 8

    def __post_init__(self):
        if self.latent_dim != int(self.latent_dim):
            raise ValueError(f"latent_dim={self.latent_dim!r} must be a whole number")
        # NumPy's 8 and Python's are one configuration, so they must name one run.
        object.__setattr__(self, "latent_dim", int(self.latent_dim))

    @property
    def label(self) -> str:
        return f"{self.kind}-L{self.latent_dim}"


class PCAConfig(WithLatents):
    """Exact PCA with ``latent_dim`` components; several from one eigendecomposition."""

    kind, model = "pca", PCA

    @classmethod
    def models(cls, configs, images):
        widest = PCA.fit(images, max(config.latent_dim for config in configs))
        return (widest.truncated(config.latent_dim) for config in configs)


class PPCAConfig(WithLatents):
    """Probabilistic PCA with ``latent_dim`` latents and one noise variance; several as for PCA."""

    kind, model = "ppca", LinearGaussian

    @classmethod
    def models(cls, configs, images):
        widest = PCA.fit(images, max(config.latent_dim for config in configs))
        return (LinearGaussian.fit_ppca(images, c.latent_dim, widest) for c in configs)


class FactorAnalysisConfig(WithLatents):
    """Factor analysis with ``latent_dim`` factors and a noise variance for every pixel."""

    kind, model = "factor_analysis", LinearGaussian

    @classmethod
    def models(cls, configs, images):
        return (LinearGaussian.fit_factor_analysis(images, c.latent_dim) for c in configs)


class NMFConfig(WithLatents):
    """Non-negative matrix factorisation into ``latent_dim`` parts."""

    kind, model = "nmf", NMF


class MeanImageConfig(Baseline):
    """The training brains' mean image, which has no latents."""

    kind, model, latent_dim = "mean_image", MeanImage, 0


class NearestBrainConfig(Baseline):
    """The nearest training brain, whose number is the one latent."""

    kind, model, latent_dim = "nearest_brain", NearestBrain, 1


LINEAR = (PCAConfig, PPCAConfig, FactorAnalysisConfig)
OTHERS = (NMFConfig, MeanImageConfig, NearestBrainConfig)
BASELINES = {config.kind: config for config in (*LINEAR, *OTHERS)}
