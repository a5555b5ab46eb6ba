"""The Allen CCF's files: annotation, template and ontology, each the only one of its kind."""

from __future__ import annotations

import filecmp
import json
import re
from pathlib import Path

import nrrd
import numpy as np
import pandas as pd
import tifffile

from brainvae_core.cohorts.atlas import AUTHORS_CROP, Atlas
from brainvae_core.cohorts.files import damage, files_below

PLANE = (320, 456)  # DV × ML at 25 µm
ONTOLOGIES = ("structure_graph_1.json", "structures.json")
TERMS = (
    "Allen Mouse Brain CCFv3 © Allen Institute for Brain Science (Wang et al. 2020, Cell 181:936). "
    "Use is subject to the Allen Institute's terms of use and citation policy."
)


def ccf_atlas(folder: str | Path, plane: int = 286) -> Atlas:
    """The real CCFv3 slice of an AP plane, 320 × 448 pixels of 25 µm (columns 4 to 452 of 456).

    The folder is searched with everything below it, through links, for ``annotation_25.nrrd``, the
    ontology (``structure_graph_1.json`` or ``structures.json``) and the average template: the
    volume ``average_template_25.nrrd``, or planes ``average_template_25_ap<first>-<last>.tif``. Two
    of a kind have to say the same; a file that is damaged or another thing is a ValueError.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of the atlas at {folder}")
    files = files_below(folder, "annotation_25.nrrd", "average_template_25*", *ONTOLOGIES)
    volume = _volume(_only(folder, files, "annotation_25.nrrd"))
    if not 0 <= plane < volume.shape[0]:
        raise ValueError(f"plane {plane} is outside; 0 to {volume.shape[0] - 1} exist")
    if volume.dtype.kind not in "ui":
        raise ValueError(f"annotation_25.nrrd in {folder} holds {volume.dtype}, no structure ids")
    template = _templates(folder, files, [plane])[plane]
    return Atlas(
        annotation=np.ascontiguousarray(volume[plane][:, AUTHORS_CROP], dtype=np.uint32),
        template=template[:, AUTHORS_CROP] / template.max(),
        structures=_ontology(folder, files),
        pixel_um=25.0,
        name=f"CCFv3 plane {plane}",
        terms=TERMS,
    )


def ccf_templates(folder: str | Path, plane: int = 286, reach: int = 40) -> dict[int, np.ndarray]:
    """The average template of a plane and of every fourth one up to ``reach`` planes away.

    By number; each (320, 448), in the files' own greys.

    Parameters
    ----------
    folder : path
        As for `ccf_atlas`; planes that its template files do not have are left out.
    plane, reach : int
        Planes of 25 µm.
    """
    folder = Path(folder)
    planes = [plane, *(p for p in range(plane - reach, plane + reach + 1, 4) if p != plane)]
    found = _templates(folder, files_below(folder, "average_template_25*"), planes)
    return {p: template[:, AUTHORS_CROP] for p, template in sorted(found.items())}


def _only(folder, files, name):
    """The file of a name; one that is there twice has to be the same, byte for byte."""
    found = [path for path in files if path.name == name]
    if not found:
        raise FileNotFoundError(f"no {name} in {folder} or below it")
    for other in found[1:]:
        if not filecmp.cmp(found[0], other, shallow=False):
            raise _differ(folder, found[0], other)
    return found[0]


def _differ(folder, one, other):
    one, other = one.relative_to(folder), other.relative_to(folder)
    return ValueError(f"{one} and {other} in {folder} differ; leave the one that is meant")


def _read(path, read):
    """What `read` makes of a file; whatever it raises is one line with the file's name."""
    try:
        return read(path)
    except Exception as error:  # of whichever library
        of_system = isinstance(error, OSError) and error.strerror  # such as no permission
        as_what = "" if of_system else " as a file of the atlas"
        raise ValueError(f"{path} cannot be read{as_what}: {damage(path, error)}") from error


def _volume(path):
    def read(path):
        volume, _ = nrrd.read(str(path))
        if volume.ndim != 3 or volume.shape[1:] != PLANE:
            sizes = " × ".join(map(str, volume.shape))
            raise ValueError(f"its voxels are {sizes}; AP × 320 × 456 (DV, ML) is read")
        return volume

    return _read(path, read)


# ---- the template ----


def _templates(folder, files, planes):
    """Planes of the average template that there are, (320, 456); all files of one must agree."""
    pattern = re.compile(r"average_template_25(?:_ap(\d+)(?:-(\d+))?\.tiff?|\.nrrd)")
    offered, found = [], {}
    for path in sorted(files, key=lambda path: (path.suffix != ".nrrd", path)):
        if not (match := pattern.fullmatch(path.name)):
            continue
        if path.suffix == ".nrrd":
            volume = _volume(path)
            first, last = 0, len(volume) - 1
        else:
            first, last = int(match[1]), int(match[2] or match[1])
        offered.append(f"{first}–{last}")
        for plane in (p for p in planes if first <= p <= last):
            is_volume = path.suffix == ".nrrd"
            pixels = volume[plane] if is_volume else _read_page(path, plane - first)
            other, same = found.setdefault(plane, (path, pixels))
            if not np.array_equal(same, pixels):
                raise _differ(folder, other, path)
    if not offered:
        raise FileNotFoundError(
            f"no average template in {folder}: looked for average_template_25.nrrd and "
            "average_template_25_ap<first>-<last>.tif"
        )
    if not found:
        raise ValueError(
            f"no template of plane {planes[0]} in {folder}; planes {offered} are there"
        )
    for plane, (path, template) in found.items():
        if not np.isfinite(template).all() or template.min() < 0 or not template.any():
            raise ValueError(f"{path} has no greys from 0 up in plane {plane}; fetch it again")
    return {plane: template.astype(np.float32) for plane, (_, template) in found.items()}


def _read_page(path, page):
    def read(path):
        pixels = tifffile.imread(path, key=page)
        if pixels.shape != PLANE:
            sizes = " × ".join(map(str, pixels.shape))
            raise ValueError(f"its page {page} is {sizes}; 320 × 456 is read")
        return pixels

    return _read(path, read)


# ---- the ontology ----


def _ontology(folder, files):
    there = [name for name in ONTOLOGIES if any(path.name == name for path in files)]
    if not there:
        raise FileNotFoundError(f"no {' or '.join(ONTOLOGIES)} in {folder} or below it")
    paths = [_only(folder, files, name) for name in there]
    tables = [read_ontology(path) for path in paths]
    if len(tables) == 2:
        one, other = (table.set_index("id").sort_index() for table in tables)
        if not one[["acronym", "parent_id"]].equals(other[["acronym", "parent_id"]]):
            raise _differ(folder, *paths)
    return tables[0]


def read_ontology(path: Path) -> pd.DataFrame:
    """Structures of an Allen ontology file, as a table with columns id, acronym, name, parent_id.

    Read are the API's graph, its flat answer (with or without its envelope; paths such as
    ``/997/8/567/``) and AllenSDK's cached list.
    """
    return _read(Path(path), _structures)


def _structures(path):
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(content, dict):
        if content.get("success") is False:
            raise ValueError(f"it is the answer of a query that failed ({content.get('msg')})")
        content = content["msg"]
    nodes, todo = [], list(content)
    while todo:
        node = todo.pop(0)
        nodes.append((int(node["id"]), node["acronym"], node["name"], _parent(node)))
        todo = node.get("children", []) + todo
    table = pd.DataFrame(nodes, columns=["id", "acronym", "name", "parent_id"])
    if table.empty or table["id"].duplicated().any():
        raise ValueError("it has no structures, or ids twice")
    if not all(isinstance(text, str) and text for node in nodes for text in node[1:3]):
        raise ValueError("it has structures without an acronym or name")
    found = frontier = {0}
    while frontier:
        frontier = {*table.loc[table["parent_id"].isin(frontier), "id"].tolist()}
        found = found | frontier
    if loose := sorted(set(table["id"]) - found):
        raise ValueError(f"it is no whole tree: structures {loose[:3]} hang from no root")
    return table


def _parent(node):
    """Id of the structure above, 0 at the root."""
    if (path := node.get("structure_id_path")) is None:
        return int(node["parent_structure_id"] or 0)
    if isinstance(path, str):
        if not re.fullmatch(r"/?(\d+/)*\d+/?", path):
            raise ValueError(f"structure_id_path {path!r} is none such as /997/8/567/")
        path = path.strip("/").split("/")
    path = [0, *map(int, path)]
    if path[-1] != int(node["id"]):
        raise ValueError(f"structure {node['id']} has a path that ends in {path[-1]}")
    return path[-2]
