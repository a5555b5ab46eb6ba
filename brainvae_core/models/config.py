"""What is fitted, and when: a fit's configuration with its two recipes, its stages and its draws.

Everything that a step draws is drawn ahead, from (seed, step) alone: a resumed fit goes on with
what it would have drawn, on every device the same.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch

from brainvae_core.models.devices import PRECISIONS, mix
from brainvae_core.models.objectives import LIKELIHOODS
from brainvae_core.models.optimise import INITIALISATIONS
from brainvae_core.models.vae import BetaVAE, halvings

BLOCK = 64  # steps that are drawn, and sent to the device, at once
CHOICES = {
    "likelihood": LIKELIHOODS,
    "initialisation": INITIALISATIONS,
    "optimiser": ("muon", "adam"),
    "precision": PRECISIONS,
}
RANGES = {"latent_dim": (1, 4096), "batch_size": (1, 2**16)}
RANGES |= {"seed": (0, 2**32 - 1), "muon_rows": (1, 2**16)}
POSITIVE = ("validate_every", "learning_rate", "muon_rate")
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
FAST_STAGES = "80x112: 1000, 160x224: 1000, 320x448: 1000"


@dataclass(frozen=True)
class BetaVAEConfig:
    """Everything a fit depends on besides its images. The defaults are the fast recipe.

    Parameters
    ----------
    latent_dim : int
    beta : float
        The weight of the KL divergence, nats per nat, as strong at every size as it is at
        320 × 448; 1 is the vanilla VAE.
    likelihood : str
        ``"gaussian"`` (as strong as Bernoulli), ``"bernoulli"`` or ``"squares"`` (the sum of
        squares).
    seed : int
        The start, the order of the images and the posterior's draws follow from it.
    steps : int or stages
        At the images' size; or sizes with the steps at each, the last being the images', for a fit
        that grows: ``"80x112: 1500, 160x224: 800, 320x448: 600"``, or such triples of integers.
    batch_size : int
    optimiser : str
        ``"muon"`` (with Adam for first and last layers and biases) or ``"adam"``.
    learning_rate, adam_beta2, muon_rate : float
        Two of Adam, one of Muon.
    muon_rows : int
        The most rows of a weight matrix that Muon orthogonalises together; a larger matrix is cut
        into blocks of as many rows each.
    lr_warmup : float
        Share of each stage over which the learning rates rise.
    lr_cosine : bool
        Whether they then fall to zero, in every stage.
    kl_warmup : float
        Share of the first stage over which β rises.
    initialisation : str
        ``"data"`` or ``"authors"``; only ``"data"`` can grow.
    precision : str
        Of the layers: ``"auto"`` (bfloat16 where a GPU has it or a CPU is measured to be faster in
        it, else float32), ``"float32"`` or ``"bfloat16"``.
    validate_every : int
        Steps between two rows of the history.
    """

    latent_dim: int = 8
    beta: float = 3.0
    likelihood: str = "gaussian"
    seed: int = 0
    steps: int | tuple[tuple[int, int, int], ...] = 2500
    batch_size: int = 16
    optimiser: str = "muon"
    learning_rate: float = 4e-3
    adam_beta2: float = 0.99
    muon_rate: float = 0.02
    muon_rows: int = 64
    lr_warmup: float = 0.05
    lr_cosine: bool = True
    kl_warmup: float = 0.5
    initialisation: str = "data"
    precision: str = "auto"
    validate_every: int = 250

    kind = "beta_vae"

    def __post_init__(self):
        object.__setattr__(self, "steps", as_steps(self.steps))
        for field in fields(self):
            value, wanted = getattr(self, field.name), type(field.default)
            if wanted in (int, float) and field.name != "steps":
                try:
                    number = wanted(value)
                except (TypeError, ValueError, OverflowError):  # of text, NaN, 1e999
                    number = None
                is_one = number is not None and (wanted is float or number == value)
                self._must(is_one, field.name, f"must be a {'whole ' * (wanted is int)}number")
                # beta=3 and beta=3.0 are one configuration, so they must name one run.
                object.__setattr__(self, field.name, number)
        for name, allowed in CHOICES.items():
            value, there = getattr(self, name), ", ".join(allowed)
            is_there = isinstance(value, str) and value in allowed
            self._must(is_there, name, f"is unknown; {there} exist")
        for name, (least, most) in RANGES.items():
            self._must(least <= getattr(self, name) <= most, name, f"must be {least} to {most}")
        for name in POSITIVE:
            self._must(0 < getattr(self, name) < math.inf, name, "must be positive and finite")
        for name, of_what in SHARES.items():
            self._must(0 <= getattr(self, name) <= 1, name, f"is a share {of_what}, 0 to 1")
        self._must(self.adam_beta2 < 1, "adam_beta2", "must be below 1: Adam would forget nothing")
        self._must(0 <= self.beta < math.inf, "beta", "must be finite and not negative")
        can_grow = isinstance(self.steps, int) or self.initialisation == "data"
        cannot = 'cannot grow; give one number of steps, or initialisation="data"'
        self._must(can_grow, "initialisation", cannot)

    def _must(self, holds, name, what):
        if not holds:
            raise ValueError(f"{name}={getattr(self, name)!r} {what}")

    @property
    def label(self) -> str:
        """What varies in a study, in a few words: the beginning of the run's name."""
        return f"{self.kind}-L{self.latent_dim}-beta{self.beta:g}-seed{self.seed}"

    @property
    def title(self) -> str:
        """What a caption calls one such fit."""
        return f"one β-VAE (seed {self.seed})"

    @property
    def n_steps(self) -> int:
        """Steps of all stages together."""
        return self.steps if isinstance(self.steps, int) else sum(n for *_, n in self.steps)

    def stages(self, image_shape) -> list[Stage]:
        """The stages of a fit to images of that shape; ValueError where they do not end there."""
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
        return [Stage(*of) for of in zip(shapes, ends, ends[1:], strict=False)]

    def restore(self, tensors: dict[str, np.ndarray]) -> BetaVAE:
        """The model whose ``state_dict`` these tensors are."""
        model = BetaVAE(self.latent_dim, tensors["input_mean"].shape)
        model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
        return model


def paper_config(**changes) -> BetaVAEConfig:
    """What the paper says, and where it is silent its authors' code; ``changes`` win."""
    return BetaVAEConfig(**PAPER | changes)


# ---- stages ----


class Stage(NamedTuple):
    """The steps of a fit at one image size."""

    shape: tuple[int, int]
    first: int  # counted from the fit's start
    last: int  # after which the next stage, if there is one, is grown from this one


def as_steps(steps) -> int | tuple[tuple[int, int, int], ...]:
    """A number of steps as an int; stages, as text or triples, as (height, width, steps)."""
    given, read = steps, None
    if isinstance(given, str) and ":" in given:
        given = [part.partition(":")[::2] for part in given.split(",")]
    try:
        is_stages = isinstance(given, list | tuple)
        read = tuple(map(_stage, given)) if is_stages else _whole(given)
    except (TypeError, ValueError, AttributeError, OverflowError):
        pass
    if not read:
        raise ValueError(
            f"steps={steps!r} must be a whole positive number, or stages such as "
            '"80x112: 1500, 160x224: 800"'
        )
    stages = read if isinstance(read, tuple) else ()
    for (h, w, _), (height, width, _) in zip(stages, stages[1:], strict=False):
        if (height, width) != (2 * h, 2 * w):
            raise ValueError(
                f"steps={format_steps(stages)!r}: {height}x{width} is not twice {h}x{w}; every "
                "stage must be twice the one before"
            )
    return read


def format_steps(steps) -> str:
    """Steps as text that `as_steps` reads."""
    if isinstance(steps, int):
        return str(steps)
    return ", ".join(f"{height}x{width}: {n}" for height, width, n in steps)


def _stage(given):
    if len(given) == 2:
        size, n = given
        given = (*re.fullmatch(r"\s*(\d+)\s*[x×]\s*(\d+)\s*", size).groups(), n)
    height, width, n = map(_whole, given)
    return height, width, n


def _whole(value):
    if isinstance(value, bool) or int(value) != float(value) or not 1 <= int(value) <= 10**9:
        raise ValueError
    return int(value)


# ---- draws ----


class Draws(NamedTuple):
    """What one step reads; tensors on the device."""

    rows: torch.Tensor  # (batch,) of the training images
    noise: torch.Tensor  # (batch, latent_dim), standard normal: samples the posterior
    rate: torch.Tensor  # (), what learning rates are multiplied with
    progress: torch.Tensor  # (), share of the KL warm-up


class Schedule:
    """The draws of every step of one stage of a fit to ``n`` images."""

    def __init__(self, config, stage: Stage, n: int, device):
        self.config, self.stage, self.n, self.device = config, stage, n, device
        self._block, self._draws = None, None

    def __call__(self, step: int) -> Draws:
        block, place = divmod(step, BLOCK)
        if block != self._block:
            self._block, self._draws = block, self._drawn(block)
        return Draws(*(part[place] for part in self._draws))

    def rows(self, step: int) -> np.ndarray:
        """Rows of one batch: every brain once an epoch, but for those that fill no batch."""
        size = self.config.batch_size
        epoch, place = divmod(step, self.n // size)
        return _epoch_order(self.config.seed, epoch, self.n)[place * size : (place + 1) * size]

    def _drawn(self, block):
        config, steps = self.config, range(block * BLOCK, (block + 1) * BLOCK)
        rows = torch.from_numpy(np.stack([self.rows(step) for step in steps]))
        generator = torch.Generator().manual_seed(mix(config.seed, 1, block))
        shape = (BLOCK, rows.shape[1], config.latent_dim)
        noise = torch.randn(shape, generator=generator)
        rates = [rate(config, self.stage, step) for step in steps]
        warm = [progress(config, self.stage, step) for step in steps]
        draws = (rows, noise, torch.tensor(rates), torch.tensor(warm))
        if self.device.type == "cuda":  # else the copy waits for the steps before it
            draws = (part.pin_memory() for part in draws)
        return [part.to(self.device, non_blocking=True) for part in draws]


def rate(config, stage: Stage, step: int) -> float:
    """Share of the learning rates at a step: linear warm-up, then constant or half a cosine.

    With the cosine every stage ends at zero. Whether that or the longer coarse stage finds what
    moves few pixels was not told apart (benchmarks/RESULTS.md).
    """
    done, steps = step - stage.first, stage.last - stage.first
    warmup = config.lr_warmup * steps
    if done < warmup or not config.lr_cosine:
        return _ramp(done, warmup)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (steps - warmup)))


def progress(config, stage: Stage, step: int) -> float:
    """Share of the KL warm-up at a step, from just above 0 to 1; it is of the first stage."""
    return _ramp(step, config.kl_warmup * (stage.last - stage.first)) if stage.first == 0 else 1.0


def _ramp(step, length):
    return min(1.0, (step + 1) / length) if length else 1.0


@lru_cache(maxsize=64)
def _epoch_order(seed, epoch, n):
    return np.random.default_rng((seed, 2, epoch)).permutation(n)
