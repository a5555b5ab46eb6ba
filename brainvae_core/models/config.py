"""The configuration of a fit: everything its weights depend on besides the images."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch

from brainvae_core.models.beta_vae import BetaVAE
from brainvae_core.models.initialisation import INITIALISATIONS
from brainvae_core.models.likelihoods import LIKELIHOODS
from brainvae_core.models.objectives import OBJECTIVES
from brainvae_core.models.training import train_together

PRECISIONS = ("float32", "tf32", "bfloat16")
CHOICES = {
    "objective": OBJECTIVES,
    "likelihood": LIKELIHOODS,
    "initialisation": INITIALISATIONS,
    "precision": PRECISIONS,
}
POSITIVE = ("latent_dim", "steps", "batch_size", "validate_every", "learning_rate", "sigma")
NOT_NEGATIVE = ("weight_decay", "patience", "capacity", "mmd_weight")


@dataclass(frozen=True)
class BetaVAEConfig:
    """Everything a fit depends on besides its images. The defaults are the demo's.

    `PaperRecipe` and `FastRecipe` have the paper's settings and those for a GPU.

    Parameters
    ----------
    latent_dim : int
    beta : float
        The objective's weight on its penalty, nats per nat; 1 is the vanilla VAE.
    objective : str
        ``"beta"``, ``"capacity"``, ``"total_correlation"`` or ``"mmd"``.
    capacity : float
        Nats that the rate is led to; of ``objective="capacity"``.
    mmd_weight : float
        Nats per image; of ``objective="mmd"``.
    likelihood : str
        ``"bernoulli"``, ``"gaussian"`` with ``sigma``, or ``"gaussian_learned"`` from it on.
    sigma : float
        Grey values; the strength of β goes with its square.
    seed : int
        The start, the order of the images and the posterior's draws follow from it.
    steps, batch_size : int
    learning_rate, weight_decay : float
        Of AdamW; without decay it is Adam.
    lr_warmup, kl_warmup : float
        Shares of the steps over which the learning rate, and β, rise.
    lr_cosine : bool
        Whether the learning rate falls to zero after its warm-up.
    initialisation : str
        ``"data"`` or ``"authors"``.
    precision : str
        Of the layers: ``"float32"``, ``"tf32"`` (a GPU's convolutions) or ``"bfloat16"``.
    validate_every : int
        Steps between two rows of the history.
    patience : int
        Validations without gain after the KL warm-up until a fit ends; 0 never stops early.

    Raises
    ------
    ValueError
        A value out of its range, or a choice that is none.
    """

    latent_dim: int = 8
    beta: float = 3.0  # the objective's weight on its penalty; β = 1 is the vanilla VAE
    objective: str = "beta"  # a key of OBJECTIVES
    capacity: float = 20.0  # nats; of objective="capacity"
    mmd_weight: float = 1000.0  # nats per image; of objective="mmd"
    likelihood: str = "gaussian"  # a key of LIKELIHOODS
    sigma: float = 0.05  # grey values; β's strength goes with σ²; where it is learned, its start
    seed: int = 0
    steps: int = 1100
    batch_size: int = 16
    learning_rate: float = 1e-3  # 2e-3 did worse than half as well
    weight_decay: float = 0.0  # AdamW; 0 is Adam
    lr_warmup: float = 0.05  # share of the steps
    lr_cosine: bool = True  # fall to zero after the warm-up
    kl_warmup: float = 0.5  # share of the steps over which β rises: keeps latents alive
    initialisation: str = "data"  # a key of INITIALISATIONS
    precision: str = "float32"  # of the layers: also "tf32" (a GPU's convolutions), "bfloat16"
    validate_every: int = 100  # steps
    patience: int = 0  # validations without gain after the KL warm-up; 0 never stops early

    kind = "beta_vae"

    def __post_init__(self):
        for field in fields(self):
            value, wanted = getattr(self, field.name), type(field.default)
            if wanted in (int, float):
                if wanted is int and value != int(value):
                    raise ValueError(f"{field.name}={value!r} must be a whole number")
                # beta=3 and beta=3.0 are one configuration, so they must name one run.
                object.__setattr__(self, field.name, wanted(value))
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown; {', '.join(allowed)} exist"
                )
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("lr_warmup", "kl_warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is a share of the steps, 0 to 1")
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ValueError(f"beta={self.beta} must be finite and not negative")
        if self.objective == "mmd" and self.mmd_weight < self.beta:
            raise ValueError(
                f"mmd_weight={self.mmd_weight} must be at least beta={self.beta}: below it, the "
                "discrepancy would be rewarded"
            )

    @property
    def label(self) -> str:
        """What varies in a study, in a few words: the beginning of the run's name."""
        point = f"L{self.latent_dim}-beta{self.beta:g}-seed{self.seed}"
        return f"{self.objective}_vae-{point}"

    def fit(self, train, validation, checkpoint=None, device="auto"):
        """The model and its history (`train_together`); FloatingPointError where the fit fails."""
        (fitted,) = train_together(
            [self], train, validation, checkpoints=[checkpoint], device=device
        )
        if fitted.failure:
            raise FloatingPointError(fitted.failure)
        return fitted.model, fitted.history

    fit_together = staticmethod(train_together)

    def restore(self, tensors: dict[str, np.ndarray]) -> BetaVAE:
        """The model whose ``state_dict`` these tensors are."""
        model = BetaVAE(self.latent_dim, tensors["input_mean"].shape)
        model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
        return model
