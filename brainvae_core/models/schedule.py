"""The stages of a fit, and what each step reads besides the images.

Everything is drawn ahead, from (seed, step) alone: a resumed fit goes on with what it would have
drawn, on every device the same.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

BLOCK = 64  # steps that are drawn, and sent to the device, at once


class Stage(NamedTuple):
    """The steps of a fit at one image size."""

    shape: tuple[int, int]
    first: int  # counted from the fit's start
    last: int  # after which the next stage is grown from this one
    final: bool = True  # whether there is no next one


class Draws(NamedTuple):
    """What one step reads; tensors on the device."""

    rows: torch.Tensor  # (batch,) of the training images
    noise: torch.Tensor  # (batch, latent_dim), standard normal: samples the posterior
    prior: torch.Tensor  # (batch, latent_dim), standard normal
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
        noise, prior = (torch.randn(shape, generator=generator) for _ in range(2))
        rates = [rate(config, self.stage, step) for step in steps]
        warm = [progress(config, self.stage, step) for step in steps]
        draws = (rows, noise, prior, torch.tensor(rates), torch.tensor(warm))
        if self.device.type == "cuda":  # else the copy waits for the steps before it
            draws = (part.pin_memory() for part in draws)
        return [part.to(self.device, non_blocking=True) for part in draws]


def rate(config, stage: Stage, step: int) -> float:
    """Share of the learning rates at a step: linear warm-up, then constant or half a cosine.

    Only the final stage ends in a cosine: what a coarse one settled the next would unsettle.
    """
    done, steps = step - stage.first, stage.last - stage.first
    warmup = config.lr_warmup * steps
    if done < warmup or not (config.lr_cosine and stage.final):
        return _ramp(done, warmup)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (steps - warmup)))


def progress(config, stage: Stage, step: int) -> float:
    """Share of the KL warm-up at a step, from just above 0 to 1; it is of the first stage."""
    return _ramp(step, config.kl_warmup * (stage.last - stage.first)) if stage.first == 0 else 1.0


def mix(*numbers: int) -> int:
    """A seed that follows from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def as_steps(steps, name: str = "steps") -> int | tuple[tuple[int, int, int], ...]:
    """A number of steps as an int, stages as a tuple of (height, width, steps).

    Parameters
    ----------
    steps : int, or str, mapping or sequence of stages
        Text such as ``"80x112: 1500, 160x224: 800"``, its mapping, or triples.
    name : str
        What messages call it.

    Raises
    ------
    ValueError
        What is given is none of these, a stage is not twice the one before, or a number is not
        positive.
    """
    given = steps
    if isinstance(given, str) and ":" in given:
        given = [part.partition(":")[::2] for part in given.split(",")]
    elif isinstance(given, dict):
        given = list(given.items())
    stages = whole = None
    try:
        if isinstance(given, list | tuple):
            stages = tuple(map(_stage, given))
        else:
            whole = _whole(given)
    except (TypeError, ValueError, AttributeError, OverflowError):
        pass
    if not (whole or stages):
        raise ValueError(
            f"{name}={steps!r} must be a whole positive number, or stages such as "
            '"80x112: 1500, 160x224: 800"'
        )
    for (h, w, _), (height, width, _) in zip(stages or (), (stages or ())[1:], strict=False):
        if (height, width) != (2 * h, 2 * w):
            raise ValueError(
                f"{name}={format_steps(stages)!r}: {height}x{width} is not twice {h}x{w}; every "
                "stage must be twice the one before"
            )
    return stages or whole


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
    if isinstance(value, bool) or int(value) != float(value) or int(value) < 1:
        raise ValueError
    return int(value)


def _ramp(step, length):
    return min(1.0, (step + 1) / length) if length else 1.0


@lru_cache(maxsize=64)
def _epoch_order(seed, epoch, n):
    return np.random.default_rng((seed, 2, epoch)).permutation(n)
