"""What a VAE must be better than: configurations of models that are fitted in one step.

They are kept as runs like a VAE. The mean image and the nearest brain are here, PCA is in
`linear`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from brainvae_core.models.devices import checked_codes, checked_images, checked_parts
from brainvae_core.models.linear import PCA, Arrays
from brainvae_core.models.training import Fitted


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


class MeanImageConfig(Baseline):
    """The training brains' mean image, which has no latents."""

    kind, model, latent_dim = "mean_image", MeanImage, 0


class NearestBrainConfig(Baseline):
    """The nearest training brain, whose number is the one latent."""

    kind, model, latent_dim = "nearest_brain", NearestBrain, 1


BASELINES = {c.kind: c for c in (PCAConfig, MeanImageConfig, NearestBrainConfig)}
