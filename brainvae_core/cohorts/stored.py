"""A cohort's form on disk: Zarr of format 2, labelled by xarray, with checksums."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numcodecs import CRC32

from brainvae_core.cohorts.atlas import Atlas

FORMAT = 2
READABLE = (1, 2)  # format 2 added the preprocessing and brains that are set aside
IMAGES = ("images", "clean", "artefact_masks")  # one a brain; the rest is small
BLOCK = 256  # brains that are hashed at once
UNREADABLE = (KeyError, ValueError, OSError, RuntimeError)  # what Zarr says of a damaged folder


def labels_of(cohort) -> xr.Dataset:
    """Everything of a cohort but what has a value for every pixel of every brain."""
    atlas, metadata, factors = cohort.atlas, cohort.metadata, cohort.factors
    variables = {
        "annotation": (("y", "x"), atlas.annotation),
        "template": (("y", "x"), atlas.template),
    }
    coords = {"brain": metadata.index.to_numpy(str)}
    if factors is not None:
        variables["factors"] = (("brain", "factor"), factors.to_numpy(np.float32))
        coords["factor"] = np.array(factors.columns, dtype=str)
    for column in metadata:
        variables[f"metadata_{column}"] = (("brain",), _plain(metadata[column]))
    for column in atlas.structures:
        variables[f"structure_{column}"] = (("structure",), _plain(atlas.structures[column]))
    attrs = {
        "brainvae_format": FORMAT,
        "name": cohort.name,
        "pixel_um": atlas.pixel_um,
        "atlas": atlas.name,
        "terms": atlas.terms,
        "metadata_columns": list(metadata),
        "refused": json.dumps(cohort.refused),
    }
    if cohort.preprocessing is not None:
        attrs["preprocessing"] = json.dumps(cohort.preprocessing, sort_keys=True)
    dataset = xr.Dataset(variables, coords, attrs)
    return dataset.assign_attrs(labels_checksum=checksum(dataset))


def image_encoding(shape: tuple[int, int]) -> dict:
    """One brain a chunk with its own CRC: a random brain costs one brain, and is checked alone."""
    return {"chunks": (1, *shape), "filters": [CRC32()]}


def fingerprint_of(blocks, metadata: pd.DataFrame) -> str:
    """`Cohort.fingerprint` of images that come block by block."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(np.ascontiguousarray(block))
    split = metadata.get("split", pd.Series("", index=metadata.index))
    digest.update("\n".join(f"{b},{s}" for b, s in split.items()).encode())
    return digest.hexdigest()[:16]


def open_dataset(path: Path) -> xr.Dataset:
    """A saved cohort whose values are not read yet."""
    if not path.is_dir():
        raise FileNotFoundError(f"no cohort at {path}")
    try:
        data = xr.open_zarr(path, zarr_format=2, consolidated=True, chunks=None)
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    version = data.attrs.get("brainvae_format")
    if version not in READABLE:
        formats = " and ".join(map(str, READABLE))
        raise ValueError(f"{path} has cohort format {version}; this library reads {formats}")
    return data


def unreadable(path: Path, error: Exception) -> ValueError:
    """What is raised in place of what Zarr raises."""
    return ValueError(f"{path} is not a readable cohort: {str(error).partition(chr(10))[0]}")


def read_labels(data: xr.Dataset) -> dict:
    """What `labels_of` wrote, as arguments of `Cohort`."""
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
    atlas = Atlas(
        data["annotation"].to_numpy(),
        data["template"].to_numpy(),
        structures,
        data.attrs["pixel_um"],
        data.attrs["atlas"],
        data.attrs["terms"],
    )
    return {
        "metadata": metadata,
        "atlas": atlas,
        "factors": factors,
        "preprocessing": json.loads(data.attrs.get("preprocessing", "null")),
        "refused": json.loads(data.attrs.get("refused", "{}")),
        "name": data.attrs["name"],
    }


def checksum(dataset: xr.Dataset) -> str:
    """Hash of every value, a block of brains at a time where they are not read yet."""
    digest = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        values = dataset[name].variable
        digest.update(f"{name} {values.shape}".encode())
        for start in range(0, len(values), BLOCK):
            digest.update(np.ascontiguousarray(values[start : start + BLOCK].to_numpy()))
    return digest.hexdigest()


def _plain(values: pd.Series) -> np.ndarray:
    """Numbers as they are, anything else as text; a missing text is empty."""
    if values.dtype.kind in "biuf":
        return values.to_numpy()
    return values.astype(object).where(values.notna(), "").to_numpy(str)
