"""Images on their way into a model: checked, in batches, on the device or streamed to it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch

SHARE = 0.25  # that images may take: of a GPU's free memory, else of the machine's
AHEAD = 4  # batches that are read before they are needed
BLOCK = 64  # images that are looked at together


class Images:
    """Images (n, height, width) on a device, or streamed to it where they do not fit.

    Parameters
    ----------
    images : ndarray of float32, or array-like
        A memory-mapped file, or what else has ``shape`` and gives NumPy for a slice or an array of
        rows, is read block by block, and kept only where it takes at most ``SHARE`` of the memory.
    device : torch.device
    """

    def __init__(self, images, device: torch.device):
        self.array, self.device = images, device
        self.shape = tuple(images.shape)
        self.resident = None
        fits = np.prod(self.shape) * 4 <= _room(device)
        if in_memory(images) and device.type != "cuda":
            self.resident = torch.from_numpy(np.require(images, requirements="CW")).to(device)
        elif fits:
            self.resident = torch.empty(self.shape, device=device)
            for first in range(0, len(self), BLOCK):
                self.resident[first : first + BLOCK] = self._read(slice(first, first + BLOCK))

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype=dtype)

    def at(self, shape) -> Images:
        """The same images with fewer pixels: block means, by one whole number on both axes."""
        if shape == self.shape[1:]:
            return self
        coarse = Coarse(self.array, self.shape[1] // shape[0])
        return Images(coarse[:] if in_memory(self.array) else coarse, self.device)

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
        images = checked_images(self.array[rows], self.shape[1:])
        images = torch.from_numpy(np.require(images, requirements="W"))  # a file's is read-only
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


def checked_parts(train, validation):
    """Training and validation images as float32, at least two of each and of one size.

    What is not in memory is left as it is, and checked when it is read.
    """
    for name, images in (("training", train), ("validation", validation)):
        if len(images) < 2:
            raise ValueError(
                f"{len(images)} {name} images; a fit needs at least 2 of them: "
                "give more brains (15 split into 10, 2 and 3), or a column split in their metadata"
            )
    if in_memory(train) and in_memory(validation):
        train = checked_images(train)
        return train, checked_images(validation, train.shape[1:])
    here, there = (tuple(images.shape[1:]) for images in (train, validation))
    if here != there:
        raise ValueError(f"training images are {here} and validation images {there}")
    return train, validation


def checked_images(images, image_shape=None) -> np.ndarray:
    """Images as float32 (n, height, width), or a ValueError that says what is wrong."""
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 3 or (image_shape and images.shape[1:] != tuple(image_shape)):
        takes = ", ".join(map(str, image_shape or ("height", "width")))
        raise ValueError(f"images have shape {images.shape}; this model takes (n, {takes})")
    if not np.isfinite(images).all():
        first = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2)))[0]
        raise ValueError(f"image {first} of {len(images)} has a NaN or infinite pixel")
    return images


def checked_codes(z, latent_dim) -> np.ndarray:
    """Codes as float32 (n, latent_dim), or a ValueError that says what is wrong."""
    z = np.asarray(z, dtype=np.float32)
    if z.ndim != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"codes have shape {z.shape}; this model takes (n, {latent_dim})")
    if not np.isfinite(z).all():
        raise ValueError("codes hold a NaN or infinite value")
    return z


def batches(array: np.ndarray, device, size: int = BLOCK) -> Iterator[torch.Tensor]:
    """Tensors of at most ``size`` rows on a device; of no rows, one empty tensor."""
    for start in range(0, max(len(array), 1), size):
        part = np.require(array[start : start + size], requirements="CW")
        yield torch.from_numpy(part).to(device)


def in_memory(images) -> bool:
    """Whether images are a NumPy array of their own, not one of a file."""
    return isinstance(images, np.ndarray) and not isinstance(images, np.memmap)


def _room(device: torch.device) -> float:
    """Bytes that images may take on a device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what torch only keeps for later is free, too
        return SHARE * torch.cuda.mem_get_info(device)[0]
    return SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _ahead(read: Callable, steps: Iterable[int]) -> Iterator[tuple[int, torch.Tensor]]:
    """What ``read`` gives for every step, read by a thread that stays a few steps ahead."""
    waiting = deque()
    with ThreadPoolExecutor(1, "images") as pool:
        for step in steps:
            waiting.append((step, pool.submit(read, step)))
            if len(waiting) == AHEAD:
                first, images = waiting.popleft()
                yield first, images.result()
        for step, images in waiting:
            yield step, images.result()
