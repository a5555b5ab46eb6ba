"""Sections of many brains, their metadata and their atlas slice in one checked object."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.cohorts.stored import ARRAYS, BLOCK, append, describe, read
from brainvae_core.disk import atomically

IN_MEMORY = 2**30  # bytes; a larger part of an opened cohort stays on disk
SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}
LEAST_BRAINS = 15  # from here on two or more are left to validate with, and to judge on
SET_ASIDE = "set aside"  # outliers: no fit and no score reads them


class Cohort:
    """Sections + metadata + atlas, checked when made.

    Parameters
    ----------
    images : ndarray, shape (n_brains, height, width)
        Grey values in [0, 1]; kept as float32.
    metadata : DataFrame
        One row a brain, indexed by a unique brain id. A column ``split`` is kept where it is given.
    atlas : Atlas
        Of the same height and width.
    clean, artefact_masks : ndarray, shape (n_brains, height, width), optional
        The images before their artefacts, and where those are (simulated cohorts).
    factors : DataFrame, optional
        The planted factors, one row a brain and one column a factor, in standard deviations.
    preprocessing : dict, optional
        What the images went through (``Preprocessing.to_dict``), so that a new brain can follow.
    refused : dict of str to str, optional
        Brains that were asked for and are not here, each with the reason in one line.
    name : str
        What a caption calls the cohort.

    Notes
    -----
    An opened cohort's arrays are mapped from its files and read only. A part of it is read into
    memory up to 1 GiB; a larger one stays on disk and gives NumPy arrays for the rows it is indexed
    with.
    """

    def __init__(
        self,
        images,
        metadata,
        atlas,
        *,
        clean=None,
        artefact_masks=None,
        factors=None,
        preprocessing=None,
        refused=None,
        name="cohort",
    ):
        self.name, self.atlas, self.metadata, self.factors = name, atlas, metadata, factors
        self.preprocessing, self.refused = preprocessing, dict(refused or {})
        self.images = self._checked(images, "images")
        self.clean = None if clean is None else self._checked(clean, "clean images")
        masks = None if artefact_masks is None else np.asarray(artefact_masks, dtype=bool)
        if masks is not None and masks.shape != self.images.shape:
            raise ValueError(f"masks of cohort {name!r} are {masks.shape}, not {self.images.shape}")
        self.artefact_masks = masks
        self._check_brains()

    def _checked(self, images, what) -> np.ndarray:
        images, brains = np.asarray(images, dtype=np.float32), self.metadata.index
        expected, what = (len(brains), *self.atlas.shape), f"{what} of cohort {self.name!r}"
        if images.shape != expected:
            raise ValueError(f"{what} are {images.shape}; (n_brains, height, width) is {expected}")
        low, high = images.min(axis=(1, 2)), images.max(axis=(1, 2))
        bad = np.flatnonzero(~((low >= 0) & (high <= 1) & (low < high)))  # of a NaN too
        if bad.size:
            raise ValueError(
                f"{what}: brain {brains[bad[0]]!r} has greys from {low[bad[0]]:g} to "
                f"{high[bad[0]]:g}, and {bad.size - 1} others are bad; greys have to lie in [0, 1] "
                "and not be all one"
            )
        return images

    def _check_brains(self):
        check_brains(self.metadata, self.name)
        if self.factors is not None and not self.factors.index.equals(self.metadata.index):
            raise ValueError(
                f"factors and metadata of cohort {self.name!r} must list the same brains"
            )

    def __getattr__(self, name):
        """The images of an opened cohort: their file is checked when they are first used."""
        if name not in ARRAYS:
            raise AttributeError(f"a cohort has no {name!r}")
        setattr(self, name, self.unread[name]())
        return self.__dict__[name]

    def __len__(self):
        return len(self.metadata)

    def __repr__(self):
        n, (height, width) = len(self), self.atlas.shape
        size = f"{height} × {width} px of {self.atlas.pixel_um:g} µm"
        counts = ""
        if "split" in self.metadata:
            found = self.metadata["split"].value_counts()
            counts = "; " + ", ".join(f"{found[s]} {s}" for s in (*SPLITS, SET_ASIDE) if s in found)
        if "copy_of" in self.metadata:
            counts += f"; {self.metadata['copy_of'].notna().sum()} are copies of another brain"
        return f"Cohort {self.name!r}: {n} brains of {size} on {self.atlas.name}{counts}"

    def split(self, name: str) -> Cohort:
        """The brains of one part: ``"train"``, ``"validation"``, ``"test"`` or ``"set aside"``."""
        if "split" not in self.metadata:
            raise ValueError(f"cohort {self.name!r} is not split; make one with with_split(seed)")
        if name not in (*SPLITS, SET_ASIDE):
            raise ValueError(f"no split {name!r}; there are {', '.join(SPLITS)}, {SET_ASIDE}")
        return self.select(self.metadata["split"] == name)

    def select(self, which) -> Cohort:
        """The brains of a boolean mask or of positions, in cohort order for a mask."""
        rows = np.arange(len(self))[np.asarray(which)]
        return self._like(
            metadata=self.metadata.iloc[rows],
            factors=None if self.factors is None else self.factors.iloc[rows],
            **{name: _part(getattr(self, name), rows) for name in ARRAYS},
        )

    def resampled(self, shape: tuple[int, int]) -> Cohort:
        """The same brains with fewer pixels: block means, by one whole number on both axes."""
        atlas = self.atlas.resampled(shape)
        factor = self.atlas.shape[0] // atlas.shape[0]
        parts = {name: _part(getattr(self, name), slice(None), factor) for name in ARRAYS}
        return self._like(atlas=atlas, **parts)

    def with_split(self, seed: int) -> Cohort:
        """The same cohort with every brain assigned to train, validation or test, by ``seed``."""
        return self._like(metadata=self.metadata.assign(split=split_of(self.metadata.index, seed)))

    def _like(self, **changes) -> Cohort:
        """A cohort that differs in some parts, whose images were checked before."""
        other = object.__new__(Cohort)
        other.__dict__ = {**self.__dict__, **changes}
        for of_images in ("fingerprint", "identity"):
            other.__dict__.pop(of_images, None)
        other._check_brains()
        return other

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what a fit reads: the images, the brain ids and the split."""
        digest = hashlib.sha256()
        for start in range(0, len(self), BLOCK):
            digest.update(np.ascontiguousarray(self.images[start : start + BLOCK]))
        split = self.metadata.get("split", pd.Series("", index=self.metadata.index))
        digest.update("\n".join(f"{b},{s}" for b, s in split.items()).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def identity(self) -> str:
        """Hash of the brains' names, their size, and the mean brightness of each eighth of them.

        The last bits of simulated pixels differ between processors, and make no other cohort. Of
        brains that were not simulated it is of their split, outliers and artefacts too.
        """
        blocks = (self.images[start : start + BLOCK] for start in range(0, len(self), BLOCK))
        each = np.concatenate([block.mean(axis=(1, 2), dtype=float) for block in blocks])
        brightness = [f"{part.mean():.4f}" for part in np.array_split(each, min(8, len(each)))]
        parts = [list(map(str, self.metadata.index)), self.images.shape, brightness]
        if self.factors is None:
            parts.append(self.metadata.reindex(columns=["split", "outlier", "artefact"]).to_csv())
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write a folder that `open_cohort` reads; it appears only when it is complete."""
        return save_blocks(path, [self])


def check_brains(metadata: pd.DataFrame, name: str, n_sections: int | None = None) -> None:
    """Refuse ids that occur twice, parts of a split that there are not, rows without a section."""
    brains = metadata.index
    if n_sections not in (None, len(brains)):
        raise ValueError(f"{n_sections} sections and {len(brains)} rows of metadata")
    if not brains.is_unique:
        twice = brains[brains.duplicated()].unique()[:5].tolist()
        raise ValueError(f"brain ids of cohort {name!r} must be unique; {twice} occur twice")
    if unknown := set(metadata.get("split", ())) - {*SPLITS, SET_ASIDE}:
        raise ValueError(
            f"split of cohort {name!r} has {sorted(map(str, unknown))[:5]}; every brain is one "
            f"of {', '.join(SPLITS)} or {SET_ASIDE}"
        )


def split_of(brains: pd.Index, seed: int) -> pd.Series:
    """Train, validation or test for every brain (`SPLITS`' shares), drawn by ``seed``."""
    order = np.random.default_rng(seed).permutation(len(brains))
    ends = np.round(np.cumsum(list(SPLITS.values())) * len(brains)).astype(int)
    if len(brains) >= LEAST_BRAINS:  # of 18 rounding would leave one
        ends[0] = min(ends[0], ends[1] - 2)
    part = np.repeat(list(SPLITS), np.diff(ends, prepend=0))
    split = np.empty_like(part)
    split[order] = part
    return pd.Series(split, index=brains)


# ---- parts that stay on disk ----


class OnDisk:
    """Brains of an array on disk, read when they are indexed: as NumPy, on the first axis."""

    ndim = 3

    def __init__(self, array: np.memmap | OnDisk, rows: np.ndarray, factor: int = 1):
        self.array, self.rows, self.factor = array, rows, factor
        self.dtype = array.dtype
        self.shape = (len(rows), *(size // factor for size in array.shape[1:]))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, which) -> np.ndarray:
        rows = self.rows[which]
        if rows.ndim == 0:
            return self[[which]][0]
        found = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
        for first in range(0, rows.size, BLOCK):
            some = self.array[rows[first : first + BLOCK]]
            found[first : first + BLOCK] = _coarser(some, self.factor)
        return found

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(dtype or self.dtype, copy=False)


def _part(array, rows, factor=1):
    """Some brains of an array, with fewer pixels: in memory, or on disk where they are many."""
    if array is None:
        return None
    if not isinstance(array, np.memmap | OnDisk):
        return _coarser(array[rows], factor)
    part = OnDisk(array, np.arange(len(array))[rows], factor)
    return part if math.prod(part.shape) * part.dtype.itemsize > IN_MEMORY else part[:]


def _coarser(images, factor):
    """Block means of images; of masks what most of each block is."""
    if factor == 1:
        return images
    means = block_mean(images, factor)
    return means >= 0.5 if images.dtype == bool else means


# ---- in a folder ----


def open_cohort(path: str | Path) -> Cohort:
    """A saved cohort; its images stay on disk and are read as they are used.

    What is damaged is refused by its SHA-256: images when they are first used, all else at once.
    """
    found = object.__new__(Cohort)
    found.__dict__ = read(Path(path))
    return found


def save_blocks(
    path: str | Path, blocks: Iterable[Cohort], *, split_seed: int | None = None
) -> Path:
    """Write a cohort that need not fit in memory; the folder appears when it is complete.

    Parameters
    ----------
    path : path
    blocks : iterable of Cohort
        Of one atlas and with the same columns; one is in memory at a time.
    split_seed : int, optional
        Splits all brains anew; otherwise each keeps its part.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists; a cohort is never overwritten")
    with atomically(path) as folder:
        folder.mkdir()
        first, metadata, factors, refused = None, [], [], {}
        for block in blocks:
            first = block if first is None else first
            if _shared(block) != _shared(first):
                raise ValueError(
                    f"the block from brain {block.metadata.index[0]!r} on has another atlas, other "
                    "columns or another preprocessing than the first"
                )
            for part in ARRAYS:
                if getattr(block, part) is not None:
                    append(folder / f"{part}.npy", getattr(block, part))
            metadata.append(block.metadata)
            factors.append(block.factors)
            refused |= block.refused
        if first is None:
            raise ValueError("no block of brains was given; a cohort has at least one")
        whole = first._like(
            metadata=pd.concat(metadata),
            factors=None if first.factors is None else pd.concat(factors),
            images=np.load(folder / "images.npy", mmap_mode="r"),
            refused=refused,
        )
        if split_seed is not None:
            whole = whole.with_split(split_seed)
        describe(folder, whole)
    return path


def _shared(block):
    """What blocks of one cohort have in common."""
    has = [getattr(block, part) is None for part in (*ARRAYS, "factors")]
    return block.atlas.annotation.tobytes(), list(block.metadata), has, block.preprocessing
