"""A lab's own brains: a folder of registered ones, as sections on the atlas's 25 µm grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from brainvae_core.cohorts.sections import (
    ACCEPTED,
    FORMATS,
    check_orientation,
    read_section,
    suffix_of,
)

RESERVED = ("artefact", "gain", "outlier")


def read_sections(
    folder: str | Path, plane: int = 286, orientation: str = "header"
) -> tuple[np.ndarray, pd.DataFrame, dict[str, str]]:
    """The same section of every brain in a folder.

    Parameters
    ----------
    folder : path
        Every brainreg folder and every file that `read_section` reads is a brain; its name without
        suffix is its id. A table ``metadata.csv`` may say more: ids in its first column, anything
        in the others; rows of brains that are not there are passed over.
    plane, orientation
        As for `read_section`.

    Returns
    -------
    sections : ndarray of float32, shape (n, 320, 456)
    metadata : DataFrame
        One row a section, indexed by brain id.
    refused : dict of str to str
        Brains that could not be read and other entries of the folder, and why.

    Raises
    ------
    FileNotFoundError, ValueError
        No such folder, no brain that can be read, a ``metadata.csv`` that is no table, lacks a
        brain or has a column of a name that the cohort needs, or sections of several shapes.
    """
    check_orientation(orientation)
    folder = Path(folder)
    brains, refused = _brains(folder)
    metadata = _metadata(folder / "metadata.csv", list(brains))
    sections = {}
    for brain, path in tqdm(brains.items(), desc="sections", unit="brain"):
        try:
            sections[brain] = _lit(read_section(path, plane, orientation))
        except (ValueError, OSError) as error:
            refused[brain] = str(error).removeprefix(f"{path} is ").removeprefix(f"{path}: ")
    if not sections:
        raise ValueError(
            f"none of the {len(brains)} brains in {folder} can be read; the first: "
            f"{next(iter(refused.values()))}"
        )
    shapes = {section.shape: brain for brain, section in sections.items()}
    if len(shapes) > 1:
        examples = ", ".join(f"{brain} is {h} × {w}" for (h, w), brain in shapes.items())
        raise ValueError(f"sections in {folder} differ in shape ({examples}); give one shape")
    return np.stack(list(sections.values())), metadata.loc[list(sections)], refused


def _brains(folder):
    """Paths by brain id, and what is no brain."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of brains at {folder}")
    if (folder / "brainreg.json").is_file():
        raise ValueError(f"{folder} is one brain; give the folder that holds it")
    brains, others = {}, {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "metadata.csv":
            continue
        suffix = suffix_of(path)
        is_file = path.is_file() and suffix in FORMATS
        if not (is_file or (path / "brainreg.json").is_file()):
            what = (
                "a folder without brainreg.json" if path.is_dir() else "of no format that is read"
            )
            others[path.name] = what
            continue
        brain = path.name[: -len(suffix)] if is_file else path.name
        if brain in brains:
            raise ValueError(
                f"{brains[brain].name} and {path.name} in {folder} are both brain {brain!r}; "
                "rename one"
            )
        brains[brain] = path
    if not brains:
        raise ValueError(f"no brain in {folder}; {ACCEPTED} is one")
    return brains, others


def _lit(section):
    if section.min() == section.max():
        raise ValueError(f"it has the one grey value {section.min():g} everywhere")
    return section


def _metadata(path, brains):
    if not path.is_file():
        return pd.DataFrame(index=pd.Index(brains, name="id", dtype=str))
    try:
        table = pd.read_csv(path, converters={0: str.strip}, index_col=0)
    except (ValueError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is no table of brains: {reason}") from error
    table.index.name = "id"
    if twice := sorted(set(table.index[table.index.duplicated()])):
        raise ValueError(f"{path} has ids twice: {', '.join(twice)}; leave one row each")
    if missing := sorted(set(brains) - set(table.index)):
        others = sorted(set(table.index) - set(brains))
        hint = f"; rows of no brain here are {', '.join(others[:5])}" if others else ""
        raise ValueError(
            f"{path} has no row for brains {', '.join(missing[:5])}: its first column has to be "
            f"the brain's name, with commas between columns{hint}"
        )
    if reserved := sorted(c for c in table if c in RESERVED or c.endswith(("_z", "_score"))):
        raise ValueError(
            f"{path} has columns {', '.join(reserved)}, which quality control writes; rename them"
        )
    return table.loc[brains]
