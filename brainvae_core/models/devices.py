"""The device a fit runs on, its precision and memory, and images on their way onto it."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, cached_property

import numpy as np
import torch
import torch.nn.functional as F

PRECISIONS = ("auto", "float32", "bfloat16")
GAIN = 1.2  # what bfloat16 must be faster by to be chosen
EMULATED = 0.5  # at less than this speed bfloat16 is emulated, which is ten and more times slower
TIMED = (16, 32, 40, 56)  # images, channels, height and width of the layer that is timed
ACTIVATIONS = 50  # numbers kept per pixel and image in a step (45 to 50 by peak RSS on a CPU)
# What a full device is called where it is not called torch.OutOfMemoryError.
FULL = ("out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED")

SHARE = 0.25  # that images may take: of a GPU's free memory, else of the machine's
AHEAD = 4  # batches held at once: one in use, three being read
BLOCK = 64  # images that are looked at together


class OutOfDeviceMemory(RuntimeError):
    """A device's memory did not hold the models that were to be trained together."""


def pick_device(device: str) -> torch.device:
    """``"auto"`` as CUDA, else MPS, else CPU; what is not here is a ValueError."""
    here = {"cpu": True}
    here |= {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if here[kind]))
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    is_here = found is not None and here.get(found.type, False)
    if is_here and found.type == "cuda":
        is_here = (found.index or 0) < torch.cuda.device_count()
    if not is_here:
        known = ", ".join(kind for kind, there in here.items() if there)
        raise ValueError(f"device={device!r} is not here; auto, {known} are")
    return found


def pick_precision(precision: str, device: torch.device, begun: str | None = None) -> str:
    """The precision of a fit's layers: of ``"auto"`` bfloat16 where it is faster, else float32.

    A fit that was ``begun`` goes on as it was, but not in a bfloat16 that is emulated here.
    """
    if precision != "auto":
        return precision
    if begun == "bfloat16" and bfloat16_gain(device) < EMULATED:
        print(
            f"begun in bfloat16, which this {device.type} has not: going on in float32",
            file=sys.stderr,
        )
        return "float32"
    return begun or ("bfloat16" if bfloat16_gain(device) >= GAIN else "float32")


@cache
def bfloat16_gain(device: torch.device) -> float:
    """How many times faster layers are in bfloat16: measured on a CPU, by one convolution."""
    if device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return float("inf") if has_it else 0.0
    if device.type != "cpu":
        return 0.0
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        signal, weight = (
            torch.ones(shape, dtype=dtype).to(memory_format=torch.channels_last)
            for shape in (TIMED, (TIMED[1], TIMED[1], 4, 4))
        )
        signal.requires_grad_(), weight.requires_grad_()
        gradient, taken = torch.ones_like(F.conv2d(signal, weight, stride=2, padding=1)), []
        for _ in range(6):  # the first chooses a kernel
            start = time.perf_counter()
            F.conv2d(signal, weight, stride=2, padding=1).backward(gradient)
            taken.append(time.perf_counter() - start)
        seconds.append(min(taken[1:]))
    return seconds[0] / seconds[1]


def at_once(together: int, device: torch.device) -> int:
    """How many of so many models are trained at once: on one thread two slow each other down."""
    return min(together, torch.get_num_threads()) if device.type == "cpu" else together


@contextmanager
def shared_threads(n: int) -> Iterator[None]:
    """The CPU's threads divided among ``n`` models."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // n))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def explain_out_of_memory(n_models: int, batch_size: int, image_shape, device) -> Iterator[None]:
    """Tell an allocation that failed in one line, an `OutOfDeviceMemory`."""
    try:
        yield
    except RuntimeError as error:
        if not _is_full(error):
            raise
        height, width = image_shape
        needed = n_models * batch_size * height * width * ACTIVATIONS * 4 / 2**30
        lower = "batch_size" if n_models == 1 else "together (or batch_size)"
        raise OutOfDeviceMemory(
            f"{device} is out of memory: {n_models} model{'s' * (n_models > 1)} at once with "
            f"batches of {batch_size} × {height} × {width} need about {needed:.1f} GiB; "
            f"lower {lower}"
        ) from error


def _is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is of memory: a broken capture hides its cause."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError) or any(t in str(error) for t in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def mix(*numbers: int) -> int:
    """A seed that follows from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def free_memory() -> None:
    """Give back what models that are gone held of the device."""
    gc.collect()  # threads and their errors refer to one another
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def keep_freed_memory() -> None:
    """Ask glibc to keep freed activations instead of returning them to the kernel.

    Otherwise every step faults in hundreds of megabytes anew: two to four times slower on a CPU.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
            libc.mallopt(trim_threshold, 2**31 - 1)
            libc.mallopt(mmap_max, 0)


# ---- images ----


class Images:
    """Images (n, height, width) on a device, or streamed to it where they do not fit.

    A memory map, or what else has ``shape`` and gives NumPy for a slice or an array of rows, is
    read block by block, and kept only where it takes at most ``SHARE`` of the memory.
    """

    def __init__(self, images, device: torch.device):
        self.array, self.device = images, device
        self.shape = tuple(images.shape)
        self.resident = None
        if in_memory(images) and device.type != "cuda":
            self.resident = torch.from_numpy(np.require(images, requirements="CW")).to(device)
        elif np.prod(self.shape) * 4 <= _room(device):
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
        return self._read(rows).to(self.device) if self.resident is None else self.resident[rows]

    def blocks(self) -> Iterator[torch.Tensor]:
        """All images in order, 64 at a time, on the device."""
        return (self.take(slice(i, i + BLOCK)) for i in range(0, len(self), BLOCK))

    def batches(self, schedule, steps: Iterable[int], out: torch.Tensor) -> Iterator[int]:
        """Fill ``out`` with the images of each step in turn; yields the steps."""
        if self.resident is not None:
            for step in steps:
                torch.index_select(self.resident, 0, schedule(step).rows, out=out)
                yield step
            return
        waiting = deque()
        with ThreadPoolExecutor(1, "images") as pool:  # which stays a few steps ahead
            for step in steps:
                waiting.append((step, pool.submit(lambda s: self._read(schedule.rows(s)), step)))
                if len(waiting) == AHEAD:
                    yield _fill(out, *waiting.popleft())
            while waiting:
                yield _fill(out, *waiting.popleft())

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
        images = checked_images(self.array[rows], self.shape[1:], greys=True)
        images = torch.from_numpy(np.require(images, requirements="W"))  # a file's is read-only
        return images.pin_memory() if self.device.type == "cuda" else images


class Coarse:
    """Block means of an array-like's images, computed as they are read."""

    def __init__(self, array, factor: int):
        n, height, width = array.shape
        self.array, self.factor = array, factor
        self.shape = (n, height // factor, width // factor)

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
        train = checked_images(train, greys=True)
        validation = checked_images(validation, train.shape[1:], greys=True)
        if (validation == validation[:1]).all():
            raise ValueError(
                f"the {len(validation)} validation images are all the same, so there is nothing to "
                "explain of them; give others"
            )
        return train, validation
    here, there = (tuple(images.shape[1:]) for images in (train, validation))
    if here != there:
        raise ValueError(f"training images are {here} and validation images {there}")
    return train, validation


def checked_images(images, image_shape=None, greys: bool = False) -> np.ndarray:
    """Images as float32 (n, height, width), or a ValueError that says what is wrong.

    With ``greys`` in [0, 1], of which noise may lead a little out: an image with more than 1 % of
    its pixels below −1 or above 2 is of another unit.
    """
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 3 or (image_shape and images.shape[1:] != tuple(image_shape)):
        takes = ", ".join(map(str, image_shape or ("height", "width")))
        raise ValueError(f"images have shape {images.shape}; this model takes (n, {takes})")
    if not np.isfinite(images).all():
        first = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2)))[0]
        raise ValueError(f"image {first} of {len(images)} has a NaN or infinite pixel")
    if greys and images.size and (images.min() < -1 or images.max() > 2):
        is_outside = ((images < -1) | (images > 2)).mean(axis=(1, 2)) > 0.01
        if is_outside.any():
            first = images[is_outside.argmax()]
            raise ValueError(
                f"image {is_outside.argmax()} of {len(images)} has values from {first.min():g} to "
                f"{first.max():g}; this model takes greys from 0 to 1, as a cohort has them"
            )
    return images


def checked_codes(z, latent_dim) -> np.ndarray:
    """Codes as float32 (n, latent_dim), or a ValueError that says what is wrong."""
    z = np.asarray(z, dtype=np.float32)
    if z.ndim != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"codes have shape {z.shape}; this model takes (n, {latent_dim})")
    if not np.isfinite(z).all():
        raise ValueError("codes hold a NaN or infinite value")
    return z


def batches(array: np.ndarray, device) -> Iterator[torch.Tensor]:
    """Tensors of at most ``BLOCK`` rows on a device; of no rows, one empty tensor."""
    for start in range(0, max(len(array), 1), BLOCK):
        part = np.require(array[start : start + BLOCK], requirements="CW")
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


def _fill(out, step, images):
    out.copy_(images.result(), non_blocking=True)
    return step
