"""What a VAE must be better than: linear models and floors, and their configurations.

They are fitted in one step and kept as runs like a VAE. Images are not clipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from brainvae_core.models.devices import BLOCK, checked_codes, checked_images, checked_parts
from brainvae_core.models.training import Fitted

NOISE_FLOOR = 1e-6  # grey²: a border that is black in every brain would have noise 0, density ∞


class Arrays:
    """A model that is nothing but float32 arrays, named in ``kept`` as in its constructor."""

    kept: tuple[str, ...]
    has_prior = True  # codes are to follow N(0, I)

    def _keep(self, *arrays):
        for name, array in zip(self.kept, arrays, strict=True):
            setattr(self, name, np.ascontiguousarray(array, dtype=np.float32))

    def tensors(self) -> dict[str, np.ndarray]:
        """What is kept on disk, by name."""
        return {name: getattr(self, name) for name in self.kept}

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """``decode(encode(images))``, (n, height, width) float32."""
        return self.decode(self.encode(images))


class PCA(Arrays):
    """Principal components with codes of unit variance.

    ``mean`` (height, width) is the training brains'; ``components`` (latent_dim, height, width) are
    orthonormal over pixels, in order of falling ``variances`` (latent_dim,) of the training codes
    (n − 1 in the denominator). Codes are divided by √variance, so that a step along a latent means
    a standard deviation, as it does for a VAE's prior. There is no posterior: a code is a point.
    """

    kept = ("mean", "components", "variances")

    def __init__(self, mean, components, variances):
        self._keep(mean, components, variances)
        self.latent_dim, self.image_shape = len(self.components), self.mean.shape
        self._flat = self.components.reshape(self.latent_dim, -1)

    @classmethod
    def fit(cls, images: np.ndarray, latent_dim: int) -> PCA:
        """The first ``latent_dim`` components of images (n, height, width), by a Gram matrix."""
        images = checked_images(images)
        n = len(images)
        if not 1 <= latent_dim <= n - 1:
            raise ValueError(f"latent_dim={latent_dim}: {n} images have 1 to {n - 1} components")
        mean = images.mean(axis=0, dtype=np.float64).astype(np.float32)
        flat = (images - mean).reshape(n, -1)
        # n × n instead of pixels × pixels: the eigenvectors of one give those of the other.
        eigenvalues, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64))
        eigenvalues, vectors = eigenvalues[::-1][:latent_dim], vectors[:, ::-1][:, :latent_dim]
        rank = int((eigenvalues > 1e-6 * max(eigenvalues[0], 1e-12)).sum())
        if rank < latent_dim:
            raise ValueError(
                f"latent_dim={latent_dim}: these {n} images differ in only {rank} directions"
            )
        rows = (vectors / np.sqrt(eigenvalues)).T.astype(np.float32) @ flat
        # Largest entries positive: the same on every machine.
        rows *= np.sign(rows[np.arange(latent_dim), np.abs(rows).argmax(axis=1)])[:, None]
        return cls(mean, rows.reshape(latent_dim, *mean.shape), eigenvalues / (n - 1))

    def truncated(self, latent_dim: int) -> PCA:
        """The same fit with fewer components."""
        if not 1 <= latent_dim <= self.latent_dim:
            raise ValueError(f"latent_dim={latent_dim}: this fit has 1 to {self.latent_dim}")
        return PCA(self.mean, self.components[:latent_dim], self.variances[:latent_dim])

    def probabilistic(self, images: np.ndarray) -> LinearGaussian:
        """Probabilistic PCA with these components, of the images that they were fitted to."""
        return LinearGaussian.fit_ppca(images, self.latent_dim, self)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Codes of images (n, height, width), (n, latent_dim) float32, standard deviations."""
        images = checked_images(images, self.image_shape)
        scores = (images - self.mean).reshape(-1, self.mean.size) @ self._flat.T
        return scores / np.sqrt(self.variances)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Images of codes (n, latent_dim), (n, height, width) float32."""
        scores = checked_codes(z, self.latent_dim) * np.sqrt(self.variances)
        return self.mean + (scores @ self._flat).reshape(-1, *self.image_shape)


class LinearGaussian(Arrays):
    """p(x|z) = N(mean + Σ_k z_k loadings_k, noise) with z ~ N(0, I), and its exact posterior.

    ``loadings`` (latent_dim, height, width) are what a step of one prior standard deviation adds,
    grey values; ``noise`` (height, width) is every pixel's variance, grey², raised to at least
    ``NOISE_FLOOR``. Variances are those of maximum likelihood, with n in the denominator. Codes are
    posterior means: they vary the less the more is lost in the noise.
    """

    kept = ("mean", "loadings", "noise")

    def __init__(self, mean, loadings, noise):
        self._keep(mean, loadings, noise)
        self.noise = np.maximum(self.noise, np.float32(NOISE_FLOOR))
        self.latent_dim, self.image_shape = len(self.loadings), self.mean.shape
        # Everything in latent_dim × latent_dim; the images' own covariance is pixels × pixels.
        flat = self.loadings.reshape(self.latent_dim, -1).astype(np.float64)
        weighed = flat / self.noise.ravel()
        self._precision = np.eye(self.latent_dim) + weighed @ flat.T
        self._encoder = np.linalg.solve(self._precision, weighed).astype(np.float32)
        self._std = np.sqrt(np.diag(np.linalg.inv(self._precision))).astype(np.float32)

    @classmethod
    def fit_ppca(
        cls, images: np.ndarray, latent_dim: int, pca: PCA | None = None
    ) -> LinearGaussian:
        """Probabilistic PCA (Tipping and Bishop 1999): one noise variance for all pixels.

        It is the mean variance over the directions which the latents leave out. ``pca`` is a fit
        to the same images with at least as many components.
        """
        pca = (pca or PCA.fit(images, latent_dim)).truncated(latent_dim)
        images = checked_images(images, pca.image_shape)
        variances = pca.variances.astype(np.float64) * (len(images) - 1) / len(images)
        total = np.square(images - pca.mean).sum(dtype=np.float64) / len(images)
        left = (total - variances.sum()) / max(pca.mean.size - latent_dim, 1)
        noise = max(left, NOISE_FLOOR)
        lengths = np.sqrt(np.maximum(variances - noise, 0))
        loadings = pca.components * lengths[:, None, None]
        return cls(pca.mean, loadings, np.full(pca.image_shape, noise))

    @classmethod
    def fit_to_factors(cls, images: np.ndarray, factors: np.ndarray) -> LinearGaussian:
        """The linear model that is told the factors: each pixel regressed on them.

        A reference for models without labels: where an analysis of its latents fails, the latents
        are not to blame. ``factors`` (n, n_factors) are of mean 0 and variance 1 as z, and loadings
        are not orthogonal: the posterior's stds leave out its correlations.
        """
        images = checked_images(images)
        factors = np.asarray(factors, dtype=np.float64)
        if factors.ndim != 2 or len(factors) != len(images):
            raise ValueError(f"factors {factors.shape} must have a row for each of {len(images)}")
        if not np.isfinite(factors).all() or (np.ptp(factors, axis=0) == 0).any():
            raise ValueError("factors must be finite, and each must vary over the images")
        if len(images) <= factors.shape[1] + 1:
            raise ValueError(f"{len(images)} images are too few for {factors.shape[1]} factors")
        terms = np.column_stack([np.ones(len(factors)), factors])
        flat = images.reshape(len(images), -1).astype(np.float64)
        coefficients = np.linalg.lstsq(terms, flat, rcond=None)[0]
        noise = np.square(flat - terms @ coefficients).mean(axis=0)
        parts = (coefficients[0], coefficients[1:], noise)
        return cls(*(part.reshape(*part.shape[:-1], *images.shape[1:]) for part in parts))

    def posterior(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of p(z|x), float32, each (n, latent_dim)."""
        images = checked_images(images, self.image_shape)
        mean = (images - self.mean).reshape(-1, self.mean.size) @ self._encoder.T
        return mean, np.tile(self._std, (len(mean), 1))

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Posterior means of images (n, height, width), (n, latent_dim) float32."""
        return self.posterior(images)[0]

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Mean images of codes (n, latent_dim), (n, height, width) float32."""
        z = checked_codes(z, self.latent_dim)
        return self.mean + np.tensordot(z, self.loadings, axes=1)

    def log_likelihood(self, images: np.ndarray) -> np.ndarray:
        """log p(x) of images (n, height, width), exact, (n,) float64, nats summed over pixels."""
        images = checked_images(images, self.image_shape)
        noise = self.noise.ravel().astype(np.float64)
        loadings = self.loadings.reshape(self.latent_dim, -1).astype(np.float64)
        # The covariance's determinant is the noise's times the posterior precision's.
        log_det = np.log(noise).sum() + np.linalg.slogdet(self._precision)[1]
        constant = -0.5 * (log_det + len(noise) * np.log(2 * np.pi))
        result = np.empty(len(images))
        for first in range(0, len(images), BLOCK):
            block = images[first : first + BLOCK]
            z = self.encode(block).astype(np.float64)
            residual = block.reshape(len(block), -1) - self.mean.ravel().astype(np.float64)
            residual -= z @ loadings
            # Woodbury's identity as a sum of squares, which is at its minimum at the posterior
            # mean: nothing cancels, and an error of z counts only squared.
            distance = np.square(residual) @ (1 / noise) + np.square(z).sum(axis=1)
            result[first : first + BLOCK] = constant - 0.5 * distance
        return result


class MeanImage(Arrays):
    """The training brains' mean section (height, width), whatever the image; it has no latents."""

    kept, latent_dim, has_prior = ("mean",), 0, False

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

    A code is no coordinate but the number of one of them, from 0: a step along this latent or its
    variance mean nothing.
    """

    kept, latent_dim, has_prior = ("images",), 1, False

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
class PCAConfig(Baseline):
    """Exact PCA with ``latent_dim`` components; several from one eigendecomposition."""

    latent_dim: int = 8

    kind, model = "pca", PCA

    def __post_init__(self):
        if self.latent_dim != int(self.latent_dim):
            raise ValueError(f"latent_dim={self.latent_dim!r} must be a whole number")
        # NumPy's 8 and Python's are one configuration, so they must name one run.
        object.__setattr__(self, "latent_dim", int(self.latent_dim))

    @property
    def label(self) -> str:
        return f"{self.kind}-L{self.latent_dim}"

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
