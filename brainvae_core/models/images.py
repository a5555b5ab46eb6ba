"""Images of a fit, wherever they are: on the device, or read ahead from an array on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch

from brainvae_core.models.arrays import checked_images, checked_parts, on_disk, tensor

SHARE = 0.5  # of the device's free memory that images may take
AHEAD = 4  # batches that are read before they are needed
BLOCK = 64  # images that are looked at together


class Images:
    """Images (n, height, width) on a device, or streamed to it where they do not fit.

    Parameters
    ----------
    images : ndarray of float32, or array-like
        A mapped file, or what has ``shape`` and gives NumPy for a slice or an array of rows, is
        never read whole unless the device is a GPU with room for it.
    device : torch.device
    """

    def __init__(self, images, device: torch.device):
        self.array, self.device = images, device
        self.shape = tuple(images.shape)
        self.resident = None
        if device.type == "cuda":
            torch.cuda.empty_cache()  # what torch only keeps for later is free, too
            if np.prod(self.shape) * 4 <= SHARE * torch.cuda.mem_get_info(device)[0]:
                self.resident = torch.empty(self.shape, device=device)
                for first in range(0, len(self), BLOCK):
                    self.resident[first : first + BLOCK] = self._read(slice(first, first + BLOCK))
        elif not on_disk(images):
            self.resident = tensor(images).to(device)

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype=dtype)

    def at(self, shape) -> Images:
        """The same images with fewer pixels: block means, by one whole number on both axes."""
        if shape == self.shape[1:]:
            return self
        coarse = Coarse(self.array, self.shape[1] // shape[0])
        return Images(coarse if on_disk(self.array) else coarse[:], self.device)

    def take(self, rows) -> torch.Tensor:
        """The images of a slice or an array of rows, on the device."""
        if self.resident is None:
            return self._read(rows).to(self.device)
        return self.resident[rows]

    def blocks(self) -> Iterator[torch.Tensor]:
        """All images in order, 64 at a time, on the device."""
        return (self.take(slice(i, i + BLOCK)) for i in range(0, len(self), BLOCK))

    def batches(self, schedule, steps: Iterable[int], out: torch.Tensor) -> Iterator[int]:
        """Fill ``out`` with the images of each step in turn; yields the steps."""
        if self.resident is not None:
            for step in steps:
                torch.index_select(self.resident, 0, schedule(step).rows, out=out)
                yield step
        else:
            for step, images in _ahead(lambda step: self._read(schedule.rows(step)), steps):
                out.copy_(images, non_blocking=True)
                yield step

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean image, (height, width) float64."""
        total = np.zeros(self.shape[1:])
        for block in self.blocks():
            total += block.cpu().numpy().sum(axis=0, dtype=np.float64)
        return total / len(self)

    @cached_property
    def sum_of_squares(self) -> float:
        """Of the deviations from the mean image, over all pixels."""
        mean = self.mean.astype(np.float32)
        return float(
            sum(np.square(b.cpu().numpy() - mean).sum(dtype=np.float64) for b in self.blocks())
        )

    def _read(self, rows) -> torch.Tensor:
        images = tensor(checked_images(self.array[rows], self.shape[1:]))
        return images.pin_memory() if self.device.type == "cuda" else images


class Coarse:
    """Block means of an array-like's images, computed as they are read."""

    def __init__(self, array, factor: int):
        n, height, width = array.shape
        self.array, self.factor = array, factor
        self.shape = (n, height // factor, width // factor)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        images, k = self.array[rows], self.factor
        blocks = images.reshape(len(images), self.shape[1], k, self.shape[2], k)
        return blocks.mean((2, 4), dtype=np.float32)


def on_device(train, validation, device: torch.device) -> tuple[Images, Images]:
    """Both parts as `Images`, checked; what is on the device already stays as it is."""
    if isinstance(train, Images):
        return train, validation
    return tuple(Images(part, device) for part in checked_parts(train, validation))


def _ahead(read: Callable, steps: Iterable[int]) -> Iterator[tuple[int, torch.Tensor]]:
    """What ``read`` gives for every step, read by a thread that stays a few steps ahead."""
    steps, waiting = iter(steps), deque()
    with ThreadPoolExecutor(1, "images") as pool:
        for step in steps:
            waiting.append((step, pool.submit(read, step)))
            if len(waiting) == AHEAD:
                first, images = waiting.popleft()
                yield first, images.result()
        while waiting:
            first, images = waiting.popleft()
            yield first, images.result()
