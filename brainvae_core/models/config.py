"""The configuration of a fit, with its two recipes: the fast one, its defaults, and the paper's."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import accumulate

import numpy as np
import torch

from brainvae_core.models.devices import PRECISIONS
from brainvae_core.models.grow import INITIALISATIONS
from brainvae_core.models.objectives import LIKELIHOODS, OBJECTIVES
from brainvae_core.models.schedule import Stage, as_steps, format_steps
from brainvae_core.models.training import train_together
from brainvae_core.models.vae import BetaVAE, halvings

CHOICES = {
    "objective": OBJECTIVES,
    "likelihood": LIKELIHOODS,
    "initialisation": INITIALISATIONS,
    "optimiser": ("muon", "adam"),
    "precision": PRECISIONS,
}
POSITIVE = ("latent_dim", "batch_size", "validate_every", "learning_rate", "muon_rate")
NOT_NEGATIVE = ("capacity", "mmd_weight")
SHARES = {"lr_warmup": "of each stage", "kl_warmup": "of the first stage", "adam_beta2": "of 1"}

# The paper's settings, and where it is silent those of the code that its authors released or built
# on. book/method.md holds them beside the fast recipe's, with where each is from.
PAPER = {
    "likelihood": "bernoulli",  # the first of the base code's two; which was used is not shown
    "optimiser": "adam",
    "learning_rate": 2e-4,
    "adam_beta2": 0.999,
    "batch_size": 64,
    "steps": 10_000,  # iteration of the released checkpoint; the paper's 4 hours may mean more
    "lr_warmup": 0.0,
    "lr_cosine": False,
    "kl_warmup": 0.0,
    "initialisation": "authors",
    "precision": "float32",  # what a Titan RTX has: no TF32
    "validate_every": 1000,  # ours: nothing is decided by it
}
# From a size that has learned the codes to one that has the detail.
FAST_STAGES = "80x112: 800, 160x224: 300, 320x448: 600"


@dataclass(frozen=True)
class BetaVAEConfig:
    """Everything a fit depends on besides its images. The defaults are the fast recipe.

    Parameters
    ----------
    latent_dim : int
    beta : float
        The objective's weight on its penalty, nats per nat, as strong at every size as it is at
        320 × 448; 1 is the vanilla VAE.
    objective : str
        ``"beta"``, ``"capacity"``, ``"total_correlation"`` or ``"mmd"``.
    capacity : float
        Nats that the rate is led to; of ``objective="capacity"``.
    mmd_weight : float
        Nats per image; of ``objective="mmd"``.
    likelihood : str
        ``"gaussian"`` (as strong as Bernoulli), ``"bernoulli"``, ``"squares"`` (the sum of squares)
        or ``"gaussian_learned"``.
    seed : int
        The start, the order of the images and the posterior's draws follow from it.
    steps : int or stages
        At the images' size; or sizes with the steps at each, the last being the images', for a fit
        that grows: ``"80x112: 1500, 160x224: 800, 320x448: 600"``, or such triples of integers.
    batch_size : int
    optimiser : str
        ``"muon"`` (with Adam for first and last layers and biases) or ``"adam"``.
    learning_rate, adam_beta2 : float
        Of Adam.
    muon_rate : float
        Of Muon.
    lr_warmup : float
        Share of each stage over which the learning rates rise.
    lr_cosine : bool
        Whether they fall to zero over the last stage.
    kl_warmup : float
        Share of the first stage over which β rises.
    initialisation : str
        ``"data"`` or ``"authors"``; only ``"data"`` can grow.
    precision : str
        Of the layers: ``"auto"`` (bfloat16 where a GPU has it or a CPU is measured to be faster in
        it, else float32), ``"float32"``, ``"tf32"`` (a GPU's convolutions) or ``"bfloat16"``.
    validate_every : int
        Steps between two rows of the history.

    Raises
    ------
    ValueError
        A value out of its range, a choice that is none, or stages that do not double.
    """

    latent_dim: int = 8
    beta: float = 3.0
    objective: str = "beta"
    capacity: float = 20.0
    mmd_weight: float = 1000.0
    likelihood: str = "gaussian"
    seed: int = 0
    steps: int | tuple[tuple[int, int, int], ...] = 1500
    batch_size: int = 16
    optimiser: str = "muon"
    learning_rate: float = 4e-3
    adam_beta2: float = 0.99
    muon_rate: float = 0.02
    lr_warmup: float = 0.05
    lr_cosine: bool = True
    kl_warmup: float = 0.5
    initialisation: str = "data"
    precision: str = "auto"
    validate_every: int = 250

    kind = "beta_vae"
    fit_together = staticmethod(train_together)

    def __post_init__(self):
        object.__setattr__(self, "steps", as_steps(self.steps))
        for field in fields(self):
            value, wanted = getattr(self, field.name), type(field.default)
            if wanted in (int, float) and field.name != "steps":
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
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must be positive and finite")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for name, of_what in SHARES.items():
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is a share {of_what}, 0 to 1")
        if self.adam_beta2 == 1:
            raise ValueError("adam_beta2=1.0 must be below 1: Adam would forget nothing")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta={self.beta} must be finite and not negative")
        if self.objective == "mmd" and self.mmd_weight < self.beta:
            raise ValueError(
                f"mmd_weight={self.mmd_weight} must be at least beta={self.beta}: below it, the "
                "discrepancy would be rewarded"
            )
        if isinstance(self.steps, tuple) and self.initialisation != "data":
            raise ValueError(
                f"initialisation={self.initialisation!r} cannot grow; give one number of steps, or "
                'initialisation="data"'
            )

    @property
    def label(self) -> str:
        """What varies in a study, in a few words: the beginning of the run's name."""
        return f"{self.objective}_vae-L{self.latent_dim}-beta{self.beta:g}-seed{self.seed}"

    @property
    def n_steps(self) -> int:
        """Steps of all stages together."""
        return self.steps if isinstance(self.steps, int) else sum(n for *_, n in self.steps)

    def stages(self, image_shape) -> list[Stage]:
        """The stages of a fit to images of that shape.

        Raises
        ------
        ValueError
            The last stage is of another size, or one does not fit the network.
        """
        image_shape = tuple(image_shape)
        if isinstance(self.steps, int):
            return [Stage(image_shape, 0, self.steps)]
        if self.steps[-1][:2] != image_shape:
            ends, theirs = ("×".join(map(str, s)) for s in (self.steps[-1][:2], image_shape))
            raise ValueError(
                f"steps={format_steps(self.steps)!r} end at {ends} and the images are {theirs}; "
                "the last stage must be theirs"
            )
        shapes = [(height, width) for height, width, _ in self.steps]
        for shape in shapes:  # before hours at the coarse ones
            halvings(shape)
        ends = list(accumulate((n for *_, n in self.steps), initial=0))
        return [
            Stage(shape, first, last, final=last == self.n_steps)
            for shape, first, last in zip(shapes, ends, ends[1:], strict=False)
        ]

    def fit(self, train, validation, checkpoint=None, device="auto"):
        """The model and its history (`train_together`); FloatingPointError where the fit fails."""
        (fitted,) = train_together(
            [self], train, validation, checkpoints=[checkpoint], device=device
        )
        if fitted.failure:
            raise FloatingPointError(fitted.failure)
        return fitted.model, fitted.history

    def restore(self, tensors: dict[str, np.ndarray]) -> BetaVAE:
        """The model whose ``state_dict`` these tensors are."""
        model = BetaVAE(self.latent_dim, tensors["input_mean"].shape)
        model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
        return model


def paper_config(**changes) -> BetaVAEConfig:
    """What the paper says, and where it is silent what its authors' released code says.

    ``changes``, such as ``latent_dim=8``, win.
    """
    return BetaVAEConfig(**PAPER | changes)


def fast_config(**changes) -> BetaVAEConfig:
    """The recipe that reaches a high held-out ELBO_β in few steps, grown to the paper's size.

    ``changes``, such as ``latent_dim=8``, win. At another size than 320 × 448, ``steps`` too.
    """
    return BetaVAEConfig(**{"steps": FAST_STAGES} | changes)
