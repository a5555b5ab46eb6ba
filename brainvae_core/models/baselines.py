"""Configurations of the models that are no VAEs: fitted in one step, kept as runs like a VAE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from brainvae_core.models.arrays import checked_parts
from brainvae_core.models.linear_gaussian import LinearGaussian
from brainvae_core.models.nmf import NMF
from brainvae_core.models.pca import PCA
from brainvae_core.models.references import MeanImage, NearestBrain
from brainvae_core.models.training import Fitted


@dataclass(frozen=True)
class Baseline:
    """What every baseline's configuration has.

    Attributes
    ----------
    kind : str
        Its key in ``BASELINES``, and the first word of its runs' names.
    model : type
        What it fits; made again from its own ``tensors()``.
    latent_dim : int
        A field, or a constant where there is no choice.
    """

    @property
    def label(self) -> str:
        return self.kind

    @classmethod
    def models(cls, configs: Sequence, images: np.ndarray) -> Iterable:
        """The model of each configuration, fitted to images (n, height, width)."""
        return [cls.model.fit(images) for _ in configs]

    def fit(self, train, validation, checkpoint=None, device="auto"):
        """The model and its one-row history."""
        (fitted,) = self.fit_together([self], train, validation)
        return fitted.model, fitted.history

    @classmethod
    def fit_together(
        cls, configs, train, validation, checkpoints=None, device="auto"
    ) -> list[Fitted]:
        """Every configuration's model with its held-out explained variance."""
        train, validation = checked_parts(np.asarray(train), np.asarray(validation))
        total = np.square(validation - validation.mean(0)).sum(dtype=np.float64)
        fitted = []
        for config, model in zip(configs, cls.models(configs, train), strict=True):
            residual = np.square(model.reconstruct(validation) - validation).sum(dtype=np.float64)
            row = {"step": 0, "explained_variance": 1 - residual / total}
            fitted.append(Fitted(model, [row | {"active_latents": config.latent_dim}], None))
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

    @classmethod
    def models(cls, configs, images):
        return (cls.model.fit(images, config.latent_dim) for config in configs)


class PCAConfig(WithLatents):
    """Exact PCA with ``latent_dim`` components."""

    kind, model = "pca", PCA

    @classmethod
    def models(cls, configs, images):
        """Every PCA from one eigendecomposition."""
        widest = PCA.fit(images, max(config.latent_dim for config in configs))
        return (widest.truncated(config.latent_dim) for config in configs)


class PPCAConfig(WithLatents):
    """Probabilistic PCA with ``latent_dim`` latents and one noise variance."""

    kind, model = "ppca", LinearGaussian

    @classmethod
    def models(cls, configs, images):
        """Every probabilistic PCA from one eigendecomposition."""
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


BASELINES = {
    config.kind: config
    for config in (
        PCAConfig,
        PPCAConfig,
        FactorAnalysisConfig,
        NMFConfig,
        MeanImageConfig,
        NearestBrainConfig,
    )
}
