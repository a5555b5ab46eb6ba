"""Sections of many brains, their metadata and their atlas slice in one labelled object."""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.cohorts.stored import (
    IMAGES,
    UNREADABLE,
    checksum,
    fingerprint_of,
    image_encoding,
    labels_of,
    open_dataset,
    read_labels,
    unreadable,
)

SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}
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
    clean : ndarray, shape (n_brains, height, width), optional
        The images before their artefacts (simulated cohorts).
    artefact_masks : ndarray of bool, shape (n_brains, height, width), optional
        Where the artefacts are.
    factors : DataFrame, optional
        The planted factors, one row a brain and one column a factor, in standard deviations.
    preprocessing : dict, optional
        What the images went through (``Preprocessing.to_dict``), so that a new brain can follow.
    refused : dict of str to str, optional
        Brains that were asked for and are not here, each with the reason in one line.
    name : str
        What a caption calls the cohort.

    Raises
    ------
    ValueError
        One line that says which invariant does not hold, and where.
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
        self.images = _checked_images(images, metadata.index, atlas, f"images of cohort {name!r}")
        self.clean = self.artefact_masks = None
        if clean is not None:
            what = f"clean images of cohort {name!r}"
            self.clean = _checked_images(clean, metadata.index, atlas, what)
        if artefact_masks is not None:
            self.artefact_masks = np.asarray(artefact_masks, dtype=bool)
            if self.artefact_masks.shape != self.images.shape:
                raise ValueError(
                    f"artefact masks {self.artefact_masks.shape} and images {self.images.shape} "
                    f"of cohort {name!r} must have one shape"
                )
        if not metadata.index.is_unique:
            twice = metadata.index[metadata.index.duplicated()].unique()[:5].tolist()
            raise ValueError(f"brain ids of cohort {name!r} must be unique; {twice} occur twice")
        unknown = set(metadata.get("split", ())) - {*SPLITS, SET_ASIDE}
        if unknown:
            raise ValueError(
                f"split of cohort {name!r} has {sorted(map(str, unknown))[:5]}; every brain is one "
                f"of {', '.join(SPLITS)} or {SET_ASIDE}"
            )
        if factors is not None and not factors.index.equals(metadata.index):
            raise ValueError(f"factors and metadata of cohort {name!r} must list the same brains")

    def __len__(self):
        return len(self.images)

    def __repr__(self):
        n, height, width = self.images.shape
        size = f"{height} × {width} px of {self.atlas.pixel_um:g} µm"
        counts = ""
        if "split" in self.metadata:
            found = self.metadata["split"].value_counts()
            counts = "; " + ", ".join(f"{found[s]} {s}" for s in (*SPLITS, SET_ASIDE) if s in found)
        return f"Cohort {self.name!r}: {n} brains of {size} on {self.atlas.name}{counts}"

    def split(self, name: str) -> Cohort:
        """The brains of one part: ``"train"``, ``"validation"``, ``"test"`` or ``"set aside"``."""
        if "split" not in self.metadata:
            raise ValueError(f"cohort {self.name!r} is not split; make one with with_split(seed)")
        if name not in (*SPLITS, SET_ASIDE):
            raise ValueError(f"no split {name!r}; there are {', '.join(SPLITS)}, {SET_ASIDE}")
        return self.select(self.metadata["split"] == name)

    def select(self, which) -> Cohort:
        """The brains picked by a boolean mask or positions, in cohort order for a mask."""
        which = np.asarray(which)
        rows = np.flatnonzero(which) if which.dtype == bool else which
        return Cohort(
            self.images[which],
            self.metadata.iloc[rows],
            self.atlas,
            clean=None if self.clean is None else self.clean[which],
            artefact_masks=None if self.artefact_masks is None else self.artefact_masks[which],
            factors=None if self.factors is None else self.factors.iloc[rows],
            preprocessing=self.preprocessing,
            refused=self.refused,
            name=self.name,
        )

    def resampled(self, shape: tuple[int, int]) -> Cohort:
        """The same brains with fewer pixels: block means, by one whole number on both axes."""
        atlas = self.atlas.resampled(shape)
        factor = self.atlas.shape[0] // atlas.shape[0]
        masks = self.artefact_masks
        return Cohort(
            block_mean(self.images, factor),
            self.metadata,
            atlas,
            clean=None if self.clean is None else block_mean(self.clean, factor),
            artefact_masks=None if masks is None else block_mean(masks, factor) >= 0.5,
            factors=self.factors,
            preprocessing=self.preprocessing,
            refused=self.refused,
            name=self.name,
        )

    def with_split(self, seed: int) -> Cohort:
        """The same cohort with every brain assigned to train, validation or test, by ``seed``."""
        split = split_of(self.metadata.index, seed)
        other = object.__new__(Cohort)
        other.__dict__ = {
            **{k: v for k, v in self.__dict__.items() if k != "fingerprint"},
            "metadata": self.metadata.assign(split=split),
        }
        return other

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what a fit reads: the images, the brain ids and the split."""
        return fingerprint_of([self.images], self.metadata)

    # ---- the labelled form, on disk ----

    def to_dataset(self) -> xr.Dataset:
        """An xarray Dataset with dimensions brain, y (DV), x (ML), factor and structure."""
        where = ("brain", "y", "x")
        images = {"images": (where, self.images, {"units": "grey value in [0, 1]"})}
        if self.clean is not None:
            images["clean"] = (where, self.clean)
        if self.artefact_masks is not None:
            images["artefact_masks"] = (where, self.artefact_masks)
        dataset = labels_of(self).assign(images).assign_attrs(fingerprint=self.fingerprint)
        return dataset.assign_attrs(checksum=checksum(dataset))

    def save(self, path: str | Path) -> Path:
        """Write as Zarr; the folder appears under its name only when it is complete."""
        path = Path(path)
        if path.exists():
            raise FileExistsError(f"{path} exists; a cohort is never overwritten")
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            # Zarr 3 has no specification for fixed-length strings yet, version 2 does.
            encoding = {"images": image_encoding(self.atlas.shape)}
            self.to_dataset().to_zarr(beside, zarr_format=2, consolidated=True, encoding=encoding)
            os.replace(beside, path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return path


def split_of(brains: pd.Index, seed: int) -> pd.Series:
    """Train, validation or test for every brain (`SPLITS`' shares), drawn by ``seed``."""
    order = np.random.default_rng(seed).permutation(len(brains))
    ends = np.round(np.cumsum(list(SPLITS.values())) * len(brains)).astype(int)
    part = np.repeat(list(SPLITS), np.diff(ends, prepend=0))
    return pd.Series(part, index=brains[order]).reindex(brains)


def open_cohort(path: str | Path) -> Cohort:
    """Read a cohort saved by `Cohort.save`, checking it as if it were new.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    ValueError
        The folder is no cohort, is of a newer format, is damaged, or breaks an invariant.
    """
    path = Path(path)
    with open_dataset(path) as lazy:
        try:
            data = lazy.load()
        except UNREADABLE as error:
            raise unreadable(path, error) from error
    # Zarr fills in for a missing file without a word.
    if data.attrs.get("checksum") != checksum(data):
        raise ValueError(f"{path} is damaged: it does not hold what was saved; copy it again")
    images, clean, masks = (data[k].to_numpy() if k in data else None for k in IMAGES)
    return Cohort(images, clean=clean, artefact_masks=masks, **read_labels(data))


def _checked_images(images, brains, atlas, what: str) -> np.ndarray:
    images = np.asarray(images, dtype=np.float32)
    expected = (len(brains), *atlas.shape)
    if images.shape != expected:
        raise ValueError(
            f"{what} have shape {images.shape}; (n_brains, height, width) is {expected}"
        )
    low, high = images.min(axis=(1, 2)), images.max(axis=(1, 2))
    finite = np.isfinite(low) & np.isfinite(high)
    for bad, fault in (
        (~finite, "a NaN or infinite pixel"),
        (finite & ((low < 0) | (high > 1)), "grey values outside [0, 1]"),
        (finite & (low == high), "one constant value"),
    ):
        if bad.any():
            first = np.flatnonzero(bad)[0]
            raise ValueError(
                f"{what}: brain {brains[first]!r} has {fault} (as have {bad.sum() - 1} others)"
            )
    return images
