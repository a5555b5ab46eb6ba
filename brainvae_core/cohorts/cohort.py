"""Sections of many brains, their metadata and their atlas slice in one labelled object."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from brainvae_core.cohorts.atlas import Atlas, block_mean

FORMAT = 2
READABLE = (1, 2)  # format 2 added the preprocessing and brains that are set aside
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
        digest = hashlib.sha256(np.ascontiguousarray(self.images).tobytes())
        split = self.metadata.get("split", pd.Series("", index=self.metadata.index))
        digest.update("\n".join(f"{b},{s}" for b, s in split.items()).encode())
        return digest.hexdigest()[:16]

    # ---- the labelled form, on disk ----

    def to_dataset(self) -> xr.Dataset:
        """An xarray Dataset with dimensions brain, y (DV), x (ML), factor and structure."""
        where = ("brain", "y", "x")
        variables = {
            "images": (where, self.images, {"units": "grey value in [0, 1]"}),
            "annotation": (("y", "x"), self.atlas.annotation),
            "template": (("y", "x"), self.atlas.template),
        }
        if self.clean is not None:
            variables["clean"] = (where, self.clean)
        if self.artefact_masks is not None:
            variables["artefact_masks"] = (where, self.artefact_masks)
        if self.factors is not None:
            variables["factors"] = (("brain", "factor"), self.factors.to_numpy(np.float32))
        for column in self.metadata:
            variables[f"metadata_{column}"] = (("brain",), _plain(self.metadata[column]))
        for column in self.atlas.structures:
            values = _plain(self.atlas.structures[column])
            variables[f"structure_{column}"] = (("structure",), values)
        coords = {"brain": self.metadata.index.to_numpy(str)}
        if self.factors is not None:
            coords["factor"] = np.array(self.factors.columns, dtype=str)
        attrs = {
            "brainvae_format": FORMAT,
            "name": self.name,
            "pixel_um": self.atlas.pixel_um,
            "atlas": self.atlas.name,
            "terms": self.atlas.terms,
            "metadata_columns": list(self.metadata),
            "refused": json.dumps(self.refused),
        }
        if self.preprocessing is not None:
            attrs["preprocessing"] = json.dumps(self.preprocessing, sort_keys=True)
        dataset = xr.Dataset(variables, coords, attrs)
        return dataset.assign_attrs(checksum=_checksum(dataset))

    def save(self, path: str | Path) -> Path:
        """Write as Zarr; the folder appears under its name only when it is complete."""
        path = Path(path)
        if path.exists():
            raise FileExistsError(f"{path} exists; a cohort is never overwritten")
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            # Zarr 3 has no specification for fixed-length strings yet, version 2 does.
            self.to_dataset().to_zarr(beside, zarr_format=2, consolidated=True)
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
    if not path.is_dir():
        raise FileNotFoundError(f"no cohort at {path}")
    try:
        with xr.open_zarr(path, zarr_format=2, consolidated=True) as lazy:
            data = lazy.load()
    except (KeyError, ValueError, OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is not a readable cohort: {reason}") from error
    version = data.attrs.get("brainvae_format")
    if version not in READABLE:
        formats = " and ".join(map(str, READABLE))
        raise ValueError(f"{path} has cohort format {version}; this library reads {formats}")
    # Zarr fills in for a missing file without a word.
    if data.attrs.get("checksum") != _checksum(data):
        raise ValueError(f"{path} is damaged: it does not hold what was saved; copy it again")
    structures = pd.DataFrame(
        {c: data[f"structure_{c}"].to_numpy() for c in ("id", "acronym", "name", "parent_id")}
    )
    brains = pd.Index(data["brain"].to_numpy().astype(str), name="brain")
    columns = data.attrs["metadata_columns"]
    metadata = pd.DataFrame(
        {c: data[f"metadata_{c}"].to_numpy() for c in columns}, index=brains, columns=columns
    ).replace("", None)
    factors = None
    if "factors" in data:
        factors = pd.DataFrame(
            data["factors"].to_numpy(), index=brains, columns=data["factor"].to_numpy().astype(str)
        )
    optional = {k: data[k].to_numpy() for k in ("clean", "artefact_masks") if k in data}
    atlas = Atlas(
        data["annotation"].to_numpy(),
        data["template"].to_numpy(),
        structures,
        data.attrs["pixel_um"],
        data.attrs["atlas"],
        data.attrs["terms"],
    )
    return Cohort(
        data["images"].to_numpy(),
        metadata,
        atlas,
        factors=factors,
        preprocessing=json.loads(data.attrs.get("preprocessing", "null")),
        refused=json.loads(data.attrs.get("refused", "{}")),
        name=data.attrs["name"],
        **optional,
    )


def _plain(values: pd.Series) -> np.ndarray:
    """Numbers as they are, anything else as text; a missing text is empty."""
    if values.dtype.kind in "biuf":
        return values.to_numpy()
    return values.astype(object).where(values.notna(), "").to_numpy(str)


def _checksum(dataset: xr.Dataset) -> str:
    digest = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        values = dataset[name].to_numpy()
        digest.update(f"{name} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()


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
