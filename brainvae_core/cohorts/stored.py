"""A cohort's folder: arrays as NPY, tables as CSV, the atlas as NPZ, the rest in one JSON.

CSV holds text only, so the JSON keeps each column's dtype; an empty cell is a missing value, and
categories come back as their values. Nothing is pickled.
"""

from __future__ import annotations

import csv
import json
import math
import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from brainvae_core.cohorts.atlas import Atlas
from brainvae_core.disk import check_file, made_with, read_sealed, seal

FORMAT = 3  # 1 and 2 were Zarr
DESCRIPTION = "cohort.json"
ANEW = "copy the cohort again, or make it anew"
ARRAYS = ("images", "clean", "artefact_masks")  # one value a pixel of each brain; the rest is small
KINDS = {"name": str, "fingerprint": str, "atlas": dict, "tables": dict, "refused": dict}
KINDS |= {"preprocessing": (dict, type(None))}
BLOCK = 64  # brains that are read or written at once


def append(path: Path, images) -> None:
    """Add brains to an NPY file, which is made where there is none; blank masks become holes."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        n = np.lib.format.read_array_header_1_0(file)[0][0] if file.read(8) else 0
        file.seek(0)  # a header has room for any number of brains
        shape = (n + len(images), *images.shape[1:])
        header = {"descr": images.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        a_brain = images.dtype.itemsize * math.prod(shape[1:])
        file.seek(n * a_brain, os.SEEK_CUR)
        for first in range(0, len(images), BLOCK):
            for image in images[first : first + BLOCK]:
                if image.any():
                    file.write(np.ascontiguousarray(image))
                else:
                    file.seek(a_brain, os.SEEK_CUR)
        file.truncate()


def describe(folder: Path, cohort) -> None:
    """Write everything of a cohort but its `ARRAYS`, which are in `folder` already."""
    atlas = cohort.atlas
    tables = {"metadata": cohort.metadata, "structures": atlas.structures}
    if cohort.factors is not None:
        tables["factors"] = cohort.factors
    np.savez_compressed(folder / "atlas.npz", annotation=atlas.annotation, template=atlas.template)
    content = {
        "format": FORMAT,
        "name": cohort.name,
        "fingerprint": cohort.fingerprint,
        "atlas": {"pixel_um": atlas.pixel_um, "name": atlas.name, "terms": atlas.terms},
        "preprocessing": cohort.preprocessing,
        "refused": cohort.refused,
        "made": made_with(),
        "tables": {
            name: _write_table(folder / f"{name}.csv", table) for name, table in tables.items()
        },
    }
    seal(folder, DESCRIPTION, content)


def read(path: Path) -> dict:
    """What makes up a `Cohort`; its `ARRAYS` are ``unread``, which check what they map."""
    if not path.is_dir():
        raise FileNotFoundError(f"no cohort at {path}")
    arrays = [f"{name}.npy" for name in ARRAYS]
    content = read_sealed(path, DESCRIPTION, FORMAT, ANEW, KINDS, later=arrays)
    try:
        names = {*content["tables"]} & {"metadata", "factors", "structures"}
        tables = {n: _read_table(path / f"{n}.csv", content["tables"][n]) for n in sorted(names)}
        with np.load(path / "atlas.npz") as arrays:
            atlas = Atlas(**arrays, structures=tables.pop("structures"), **content["atlas"])
        shape = (len(tables["metadata"]), *atlas.shape)
    except Exception as error:  # what another program sealed
        why = (str(error) or type(error).__name__).partition("\n")[0]
        raise ValueError(
            f"{path / DESCRIPTION} is of no cohort that can be read ({why}); {ANEW}"
        ) from error
    parts = {name: _mapped(path, name, content["files"], shape) for name in ARRAYS}
    kept = {k: content[k] for k in ("name", "fingerprint", "preprocessing", "refused")}
    absent = {name: None for name, part in parts.items() if part is None}
    return {"factors": None, **tables, **absent, "unread": parts, "atlas": atlas, **kept}


def _mapped(path, name, files, shape):
    """What gives an array mapped from its file, once the file's checksum was compared."""
    if f"{name}.npy" not in files:
        return None
    file, about = path / f"{name}.npy", files[f"{name}.npy"]
    dtype = bool if name == "artefact_masks" else np.float32
    try:  # the header is what a size does not check
        array = np.load(file, mmap_mode="r")
        same = (array.shape, array.dtype) == (shape, dtype)
    except PermissionError:
        raise ValueError(f"{file} cannot be read; see to its permissions") from None
    except Exception:  # of NumPy's reader of headers
        same = False
    if not same:
        raise ValueError(f"{file} is damaged: its header is not what was saved; {ANEW}")
    return partial(_checked, array, file.absolute(), about)  # wherever one works by then


def _checked(array, file, about):
    check_file(file, about["bytes"], about["sha256"], ANEW)
    return array


def _write_table(path, table) -> list[dict]:
    """Write a table's index and columns; gives what the text does not say of each."""
    columns = [(table.index.name, table.index), *table.items()]
    kinds, cells = [], []
    for name, values in columns:
        if isinstance(values.dtype, pd.CategoricalDtype):
            values = values.astype(object)
        kind, missing = {"name": name, "dtype": str(values.dtype)}, pd.isna(values)
        values = [None if none else value for value, none in zip(values, missing, strict=True)]
        is_text = kind["dtype"] != "object" or all(isinstance(v, str | None) for v in values)
        if not is_text:  # such as True, False and missing
            kind["json"] = True
        write = str if is_text else partial(json.dumps, default=np.generic.item)
        cells.append(["" if value is None else write(value) for value in values])
        kinds.append(kind)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow([str(kind["name"]) for kind in kinds])
        writer.writerows(zip(*cells, strict=True))
    return kinds


def _read_table(path, kinds) -> pd.DataFrame:
    with path.open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    cells = list(zip(*rows, strict=True)) or [()] * len(kinds)
    index, *columns = map(_typed, cells, kinds)
    table = pd.DataFrame(dict(enumerate(columns)), index=range(len(rows)))
    table.columns = [kind["name"] for kind in kinds[1:]]
    return table.set_axis(pd.Index(index, name=kinds[0]["name"]))


def _typed(cells, kind) -> pd.Series:
    """A column from its text."""
    dtype, missing = kind["dtype"], np.nan if kind["dtype"].startswith("float") else None
    values = pd.Series([cell or missing for cell in cells], dtype=object)
    if kind.get("json"):
        return values.map(json.loads, na_action="ignore").astype(object)
    if dtype.startswith("bool"):
        values = values.map({"True": True, "False": False})
    return values.astype(dtype)
