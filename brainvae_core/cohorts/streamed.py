"""A cohort larger than memory: its images stay on disk and are read brain by brain."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
import zarr

from brainvae_core.cohorts.atlas import Atlas
from brainvae_core.cohorts.cohort import Cohort, split_of
from brainvae_core.cohorts.stored import (
    BLOCK,
    IMAGES,
    checksum,
    fingerprint_of,
    image_encoding,
    labels_of,
    open_dataset,
    read_labels,
)

READERS = min(8, os.cpu_count() or 1)  # brains that are decompressed at once


class StreamedImages:
    """Images of a saved cohort, read when they are indexed.

    A slice, positions or a boolean mask gives a new float32 ndarray (n, height, width) in [0, 1], a
    whole number one image. ``np.asarray`` reads them all. Safe to index from several threads.

    Parameters
    ----------
    array : zarr.Array
        The cohort's images, one brain a chunk.
    brains : Index
        Ids of all brains of `array`.
    rows : ndarray of int
        Rows of `array` that this view shows, in order.
    """

    dtype = np.dtype(np.float32)
    ndim = 3

    def __init__(self, array: zarr.Array, brains: pd.Index, rows: np.ndarray):
        self._array, self._brains, self._rows = array, brains, rows
        self._folder = Path(array.store.root) / array.path
        self._codecs = [*array.compressors, *reversed(array.filters)]
        self._pool = ThreadPoolExecutor(READERS, "brains")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self._rows), *self._array.shape[1:])

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, which) -> np.ndarray:
        rows = self._rows[which]
        if rows.ndim == 0:
            return self._brain(int(rows))
        images = np.empty((len(rows), *self.shape[1:]), np.float32)
        for image, found in zip(images, self._pool.map(self._brain, rows), strict=True):
            image[:] = found
        return images

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(dtype or np.float32, copy=False)

    def __repr__(self):
        n, height, width = self.shape
        return f"{n} images of {height} × {width} px on disk, {n * height * width * 4 / 1e9:.1f} GB"

    def select(self, which) -> StreamedImages:
        """The images picked by a boolean mask or positions; nothing is read."""
        return StreamedImages(self._array, self._brains, self._rows[which])

    def _brain(self, row):
        """One chunk, straight from its file: several times faster than through Zarr's own loop."""
        try:
            chunk = (self._folder / f"{row}.0.0").read_bytes()
            for codec in self._codecs:  # the last of them compares the checksum
                chunk = codec.decode(chunk)
            image = np.frombuffer(chunk, "<f4").reshape(self.shape[1:])
            if image.min() >= 0 and image.max() <= 1:  # no NaN either
                return image
            fault = "it has a NaN or grey values outside [0, 1]"
        except (OSError, ValueError, RuntimeError) as error:
            fault = str(error)
        raise ValueError(
            f"brain {self._brains[row]!r} in {self._array.store.root} is missing or damaged "
            f"({fault}); copy the cohort again"
        )


@dataclass(frozen=True, eq=False, repr=False)
class StreamedCohort:
    """What a fit needs of a cohort, with images that stay on disk.

    Attributes
    ----------
    images : StreamedImages
        Of shape (n_brains, height, width).
    metadata : DataFrame
        One row a brain, indexed by brain id.
    atlas : Atlas
    factors : DataFrame or None
    preprocessing : dict or None
    refused : dict of str to str
    name : str
    saved_fingerprint : str or None
        The fingerprint of the folder; None for a part of it.
    """

    images: StreamedImages
    metadata: pd.DataFrame
    atlas: Atlas
    factors: pd.DataFrame | None
    preprocessing: dict | None
    refused: dict[str, str]
    name: str
    saved_fingerprint: str | None = None

    __len__, __repr__, split = Cohort.__len__, Cohort.__repr__, Cohort.split

    @cached_property
    def fingerprint(self) -> str:
        """`Cohort.fingerprint`: both name the same runs. For a part, each brain is read once."""
        blocks = (self.images[i : i + BLOCK] for i in range(0, len(self), BLOCK))
        return self.saved_fingerprint or fingerprint_of(blocks, self.metadata)

    def select(self, which) -> StreamedCohort:
        """The brains picked by a boolean mask or positions; nothing is read."""
        which = np.asarray(which)
        rows = np.flatnonzero(which) if which.dtype == bool else which
        return replace(
            self,
            images=self.images.select(rows),
            metadata=self.metadata.iloc[rows],
            factors=None if self.factors is None else self.factors.iloc[rows],
            saved_fingerprint=None,
        )

    def with_split(self, seed: int) -> StreamedCohort:
        """The same cohort with every brain assigned to train, validation or test, by ``seed``."""
        split = split_of(self.metadata.index, seed)
        return replace(self, metadata=self.metadata.assign(split=split), saved_fingerprint=None)


def stream_cohort(path: str | Path) -> StreamedCohort:
    """Open a saved cohort without reading its images.

    Ids, metadata, factors and atlas are checked as a whole. Images cannot be: the checksum of a
    cohort of 100,000 brains takes minutes, and `open_cohort` is what compares it. Instead each
    brain is checked whenever it is read: its file is there, its own CRC-32 holds, its values are
    in [0, 1]. What nobody reads is not checked, and `fingerprint` is the one that was saved.

    Parameters
    ----------
    path : path
        What `Cohort.save` or `save_blocks` wrote.

    Returns
    -------
    StreamedCohort

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    ValueError
        The folder is no cohort, is damaged, or was saved before cohorts could be streamed. Later,
        on indexing ``images``: that brain is missing or damaged.
    """
    path = Path(path)
    with open_dataset(path) as data:
        if "labels_checksum" not in data.attrs:
            raise ValueError(
                f"{path} was saved before cohorts could be streamed; save it anew with "
                "open_cohort(path).save(other)"
            )
        labels = data.drop_vars(IMAGES, errors="ignore").load()
    if data.attrs["labels_checksum"] != checksum(labels):
        raise ValueError(f"{path} is damaged: it does not hold what was saved; copy it again")
    described = read_labels(labels)
    brains = described["metadata"].index
    array = zarr.open_array(path / "images", mode="r")
    images = StreamedImages(array, brains, np.arange(len(brains)))
    return StreamedCohort(images, **described, saved_fingerprint=data.attrs["fingerprint"])


def save_blocks(
    path: str | Path,
    blocks: Iterable[Cohort],
    *,
    split_seed: int | None = None,
    name: str | None = None,
) -> Path:
    """Write a cohort that need not fit in memory, block by block.

    The folder is what `Cohort.save` would have written of all brains together, but without
    ``clean`` and ``artefact_masks``, and appears under its name only when it is complete.

    Parameters
    ----------
    path : path
    blocks : iterable of Cohort
        Of one atlas and with the same columns; ids are unique over all of them. One is in memory
        at a time.
    split_seed : int, optional
        Splits all brains anew, as `Cohort.with_split` does; otherwise each keeps its part.
    name : str, optional
        What a caption calls the cohort; the first block's name when it is not given.

    Raises
    ------
    FileExistsError
        There is something at `path`.
    ValueError
        No block, or blocks that do not fit together.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists; a cohort is never overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        whole = _append_all(beside, blocks, split_seed, name)
        labels_of(whole).to_zarr(beside, zarr_format=2, mode="a", consolidated=True)
        with xr.open_zarr(beside, zarr_format=2, consolidated=True, chunks=None) as written:
            zarr.open_group(beside, mode="r+", zarr_format=2).attrs.update(
                fingerprint=whole.fingerprint, checksum=checksum(written)
            )
        zarr.consolidate_metadata(beside, zarr_format=2)
        os.replace(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path


def _append_all(folder, blocks, split_seed, name) -> StreamedCohort:
    """Images of all blocks on disk, and the rest of them in memory."""
    group = zarr.open_group(folder, mode="w", zarr_format=2)
    array = first = None
    metadata, factors = [], []
    for block in blocks:
        if array is None:
            first, shape = block, block.atlas.shape
            labels = {"_ARRAY_DIMENSIONS": ["brain", "y", "x"], "units": "grey value in [0, 1]"}
            # xarray takes the fill value for a missing pixel: it must be none that brains have.
            array = group.create_array(
                "images",
                shape=(0, *shape),
                dtype="f4",
                fill_value=np.nan,
                attributes=labels,
                **image_encoding(shape),
            )
        _checked_block(first, block)
        array.append(block.images)
        metadata.append(block.metadata)
        factors.append(block.factors)
    if array is None:
        raise ValueError("no block of brains was given; a cohort has at least one")
    metadata = pd.concat(metadata)
    if not metadata.index.is_unique:
        twice = metadata.index[metadata.index.duplicated()].unique()[:5].tolist()
        raise ValueError(f"brain ids must be unique over all blocks; {twice} occur twice")
    if split_seed is not None:
        metadata["split"] = split_of(metadata.index, split_seed)
    images = StreamedImages(array, metadata.index, np.arange(len(metadata)))
    factors = None if first.factors is None else pd.concat(factors)
    return StreamedCohort(
        images,
        metadata,
        first.atlas,
        factors,
        first.preprocessing,
        first.refused,
        name or first.name,
    )


def _checked_block(first, block):
    shared = [
        (c.atlas.annotation.tobytes(), list(c.metadata), c.factors is None, c.preprocessing)
        for c in (first, block)
    ]
    if shared[0] != shared[1]:
        raise ValueError(
            f"the block from brain {block.metadata.index[0]!r} on has another atlas, other columns "
            "or another preprocessing than the first; blocks of one cohort share them"
        )
