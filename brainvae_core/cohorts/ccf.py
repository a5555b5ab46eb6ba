"""The CCF's files: annotation, average template and ontology, each held against the others."""

from __future__ import annotations

import filecmp
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from brainvae_core.cohorts.atlas import AUTHORS_CROP, Atlas, and_below
from brainvae_core.cohorts.files import describe_damage, files_below
from brainvae_core.cohorts.greys import read_tiff
from brainvae_core.cohorts.volumes import read_volume
from brainvae_core.disk import sha256_of, unsealed

PLANE = (320, 456)  # DV × ML at 25 µm
REACH = 40  # planes before and after, of which templates are told
ONTOLOGIES = ("structure_graph_1.json", "structures.json")
CHECKSUMS = "checksums.json"  # of the files beside it, where an acquisition left them
TERMS = (
    "Allen Mouse Brain CCFv3 © Allen Institute for Brain Science (Wang et al. 2020, Cell 181:936). "
    "Use is subject to the Allen Institute's terms of use and citation policy."
)


def ccf_atlas(folder: str | Path, plane: int = 286) -> Atlas:
    """The real CCFv3 slice of an AP plane, 320 × 448 pixels of 25 µm (columns 4 to 452 of 456).

    The folder and all below it, through links, must hold ``annotation_25.nrrd``, the ontology
    (``structure_graph_1.json`` or ``structures.json``) and the average template: the volume
    ``average_template_25.nrrd``, or planes ``average_template_25_ap<first>-<last>.tif``. Two of a
    kind have to say the same.
    """
    folder = Path(folder)
    files = files_below(folder, "annotation_25.nrrd", "average_template_25*", *ONTOLOGIES)
    volume = _read(_only(folder, files, "annotation_25.nrrd"), _voxels)
    if not 0 <= plane < volume.shape[0]:
        raise ValueError(f"plane {plane} is outside; 0 to {volume.shape[0] - 1} exist")
    if volume.dtype.kind not in "ui":
        raise ValueError(f"annotation_25.nrrd in {folder} holds {volume.dtype}, no structure ids")
    if not volume[plane].any():
        raise ValueError(f"annotation_25.nrrd in {folder} has no structure in plane {plane}")
    template = _templates(folder, files, [plane])[plane]
    return Atlas(
        annotation=np.ascontiguousarray(volume[plane][:, AUTHORS_CROP], dtype=np.uint32),
        template=template[:, AUTHORS_CROP] / template.max(),
        structures=_ontology(folder, files),
        pixel_um=25.0,
        name=f"CCFv3 plane {plane}",
        terms=TERMS,
    )


def ccf_templates(folder: str | Path, plane: int = 286) -> dict[int, np.ndarray]:
    """The average template of a plane and of every fourth one up to 1 mm away, by number.

    Each (320, 448), in the files' own greys; planes that the folder (as for `ccf_atlas`) does not
    have are left out.
    """
    folder = Path(folder)
    planes = [plane, *(p for p in range(plane - REACH, plane + REACH + 1, 4) if p != plane)]
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


def _read(path, read, *options):
    """What `read` makes of a file; whatever it raises is one line with the file's name."""
    known, beside = {}, path.parent / CHECKSUMS
    try:
        if beside.exists():
            known = unsealed(beside.read_bytes())
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{beside} cannot be read: {describe_damage(beside, error)}") from error
    try:
        if path.name in known and known[path.name] != sha256_of(path):
            raise ValueError(f"it is not what {CHECKSUMS} beside it says; fetch it again")
        return read(path, *options)
    except Exception as error:  # of whichever library
        of_system = isinstance(error, OSError) and error.strerror  # such as no permission
        kind = "" if of_system else " as a file of the atlas"
        raise ValueError(f"{path} cannot be read{kind}: {describe_damage(path, error)}") from error


def _voxels(path, n_planes=None):
    """The planes of a volume or of a TIFF's pages, (AP, 320, 456)."""
    if path.suffix == ".nrrd":
        with path.open("rb") as file:
            volume = read_volume(path.name, file)
        voxels, scaling = volume.voxels, volume.scaling
    else:
        with tifffile.TiffFile(path) as tiff:
            voxels, scaling, _ = read_tiff(tiff)
    if scaling != (1, 0):
        raise ValueError(f"its greys are scaled by {scaling}; those as they are are read")
    voxels = voxels[None] if (voxels.ndim, n_planes) == (2, 1) else voxels
    if voxels.ndim != 3 or voxels.shape[1:] != PLANE or n_planes not in (None, len(voxels)):
        sizes, n = " × ".join(map(str, voxels.shape)), n_planes or "AP"
        raise ValueError(f"its voxels are {sizes}; {n} × 320 × 456 (DV, ML) is read")
    return voxels


def _templates(folder, files, planes):
    """Planes of the average template that there are, (320, 456); all files of one must agree."""
    pattern = re.compile(r"average_template_25(?:_ap(\d+)(?:-(\d+))?\.tiff?|\.nrrd)")
    offered, found = [], {}
    for path in sorted(files, key=lambda path: (path.suffix != ".nrrd", path)):
        if not (match := pattern.fullmatch(path.name)):
            continue
        first, last = int(match[1] or 0), int(match[2] or match[1] or 0)
        n_planes = None if path.suffix == ".nrrd" else last - first + 1
        volume = _read(path, _voxels, n_planes)
        offered.append(f"{first}–{first + len(volume) - 1}")
        for plane in (p for p in planes if first <= p < first + len(volume)):
            other, same = found.setdefault(plane, (path, volume[plane - first]))
            if not np.array_equal(same, volume[plane - first]):
                raise _differ(folder, other, path)
    if not offered:
        raise FileNotFoundError(f"no average template in {folder} or below it")
    if not found:
        there = f"planes {', '.join(offered)} are there"
        raise ValueError(f"no template of plane {planes[0]} in {folder}; {there}")
    for plane, (path, template) in found.items():
        if not np.isfinite(template).all() or template.min() < 0 or not template.any():
            raise ValueError(f"{path} has no greys from 0 up in plane {plane}; fetch it again")
    return {plane: template.astype(np.float32) for plane, (_, template) in found.items()}


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

    Read are the API's graph, its flat answer with or without its envelope, and AllenSDK's list.
    """
    return _read(Path(path), _structures)


def _structures(path):
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(content, dict):
        if content.get("success") is False:
            raise ValueError(f"it is the answer of a query that failed ({content.get('msg')})")
        content = content["msg"]
    nodes, todo = [], [(None, node) for node in content]
    is_nested = bool(todo) and "children" in todo[0][1]
    while todo:
        above, node = todo.pop(0)
        id, words, parent = node["id"], (node["acronym"], node["name"]), _parent(node)
        if type(id) is not int or not 0 < id < 2**32 or above not in (None, parent):
            raise ValueError(f"structure {id!r:.40} is no number, or not below {above}")
        if not all(isinstance(word, str) and word.strip() and word.isprintable() for word in words):
            raise ValueError(f"structure {id} has names {words!r:.80}")
        if ("children" in node) != is_nested:
            raise ValueError(f"structure {id} does not say as the others do what is below it")
        nodes.append((id, *words, parent))
        todo = [(id, below) for below in node.get("children", ())] + todo
    table = pd.DataFrame(nodes, columns=["id", "acronym", "name", "parent_id"])
    if table.empty or table["id"].duplicated().any() or table["acronym"].duplicated().any():
        raise ValueError("it has no structures, or ids or acronyms twice")
    if loose := sorted({*table["id"].tolist()} - {*and_below(table, np.array([0])).tolist()}):
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
