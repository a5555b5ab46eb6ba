"""The library's boundary: NumPy arrays checked on the way in, batches on the way through."""

from __future__ import annotations

import ctypes
import sys

import numpy as np
import torch


def checked_images(images, image_shape) -> np.ndarray:
    """Images as float32 (n, height, width), or a ValueError that says what is wrong."""
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 3 or images.shape[1:] != tuple(image_shape):
        takes = ", ".join(map(str, image_shape if len(image_shape) == 2 else ("height", "width")))
        raise ValueError(f"images have shape {images.shape}; this model takes (n, {takes})")
    if not np.isfinite(images).all():
        first = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2)))[0]
        raise ValueError(f"image {first} of {len(images)} has a NaN or infinite pixel")
    return images


def checked_parts(train, validation):
    """Training and validation images as float32, at least two of each and of one size.

    What is on disk is left as it is, and checked when it is read.
    """
    for name, images in (("training", train), ("validation", validation)):
        if len(images) < 2:
            raise ValueError(
                f"{len(images)} {name} images; a fit needs at least 2 of them: "
                "give more brains (15 split into 10, 2 and 3), or a column split in their metadata"
            )
    image_shape = tuple(np.shape(train)[1:])
    if not (on_disk(train) or on_disk(validation)):
        return checked_images(train, image_shape), checked_images(validation, image_shape)
    if tuple(validation.shape[1:]) != image_shape:
        raise ValueError(
            f"training images are {image_shape} and validation images {validation.shape[1:]}"
        )
    return train, validation


def on_disk(images) -> bool:
    """Whether images are read when they are indexed: a mapped file, or what is no ndarray."""
    return not isinstance(images, np.ndarray) or isinstance(images, np.memmap)


def tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor of an array's own memory, or of a copy where it may only be read."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def checked_codes(z, latent_dim) -> np.ndarray:
    """Codes as float32 (n, latent_dim), or a ValueError that says what is wrong."""
    z = np.asarray(z, dtype=np.float32)
    if z.ndim != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"codes have shape {z.shape}; this model takes (n, {latent_dim})")
    if not np.isfinite(z).all():
        raise ValueError("codes hold a NaN or infinite value")
    return z


def checked_latent_dim(latent_dim, n_images, most, what):
    """A ValueError where images do not have so many of ``what``, of which they have ``most``."""
    if not 1 <= latent_dim <= most:
        raise ValueError(f"latent_dim={latent_dim}: {n_images} images have 1 to {most} {what}")


def batches(array: np.ndarray, device, size: int = 64):
    """Tensors of at most ``size`` rows on a device; of no rows, one empty tensor."""
    for start in range(0, max(len(array), 1), size):
        yield tensor(array[start : start + size]).to(device)


def keep_freed_memory():
    """Ask glibc to keep freed activations instead of returning them to the kernel.

    Otherwise every step faults in hundreds of megabytes anew: two to four times slower on a CPU.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
            libc.mallopt(trim_threshold, 2**31 - 1)
            libc.mallopt(mmap_max, 0)
