"""What each step of a fit reads besides the images: drawn ahead, from (seed, step) alone.

A resumed fit therefore goes on with what it would have drawn, on every device the same.
"""

from __future__ import annotations

import math
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


def _ramp(step, length):
    return min(1.0, (step + 1) / length) if length else 1.0


@lru_cache(maxsize=64)
def _epoch_order(seed, epoch, n):
    return np.random.default_rng((seed, 2, epoch)).permutation(n)
