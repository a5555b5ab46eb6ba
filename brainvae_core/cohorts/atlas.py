"""The atlas slice a cohort shares: which structure every pixel belongs to; the CCF's files."""

from __future__ import annotations

import difflib
import filecmp
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nrrd
import numpy as np
import pandas as pd
import tifffile

from brainvae_core.cohorts.files import damage, files_below

AUTHORS_CROP = slice(4, 452)  # of 456 columns; on plane 286 the tissue ends at 432
PLANE = (320, 456)  # DV × ML at 25 µm
REACH = 40  # planes before and after, of which templates are told
ONTOLOGIES = ("structure_graph_1.json", "structures.json")
TERMS = (
    "Allen Mouse Brain CCFv3 © Allen Institute for Brain Science (Wang et al. 2020, Cell 181:936). "
    "Use is subject to the Allen Institute's terms of use and citation policy."
)


@dataclass(frozen=True, eq=False)
class Atlas:
    """One coronal atlas slice.

    ``annotation`` (height, width) is the CCF structure id of every pixel, 0 outside the brain, DV
    down and ML across; ``template`` the average brightness in [0, 1]; ``structures`` a table of
    ``id``, ``acronym``, ``name`` and ``parent_id`` (0 at the root).
    """

    annotation: np.ndarray
    template: np.ndarray
    structures: pd.DataFrame
    pixel_um: float
    name: str  # what a caption calls it
    terms: str = ""  # whose it is and how it is cited, where it is not the project's own

    def __post_init__(self):
        if self.annotation.ndim != 2 or self.annotation.shape != self.template.shape:
            raise ValueError(
                f"annotation {self.annotation.shape} and template {self.template.shape} of atlas "
                f"{self.name!r} must be one (height, width)"
            )
        unknown = np.setdiff1d(np.unique(self.annotation), [0, *self.structures["id"]])
        if unknown.size:
            raise ValueError(
                f"atlas {self.name!r} has pixels of structure ids {unknown[:5].tolist()} that its "
                "structures table does not name"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.annotation.shape

    @property
    def brain_mask(self) -> np.ndarray:
        """Every labelled pixel, (height, width) bool."""
        return self.annotation > 0

    @property
    def acronyms(self) -> list[str]:
        """Acronyms with at least one pixel in this slice, counting descendants, in table order."""
        parent = self.structures.set_index("id")["parent_id"]
        present = frontier = {*np.unique(self.annotation[self.brain_mask]).tolist()}
        while frontier:
            frontier = {*parent[[*frontier]].tolist()} - present - {0}
            present = present | frontier
        return self.structures.loc[self.structures["id"].isin(present), "acronym"].tolist()

    def descendants(self, acronym: str) -> np.ndarray:
        """Ids of a structure and of everything below it."""
        rows = self.structures.loc[self.structures["acronym"] == acronym, "id"]
        if rows.empty:
            near = difflib.get_close_matches(acronym, self.acronyms, n=3, cutoff=0.4)
            raise ValueError(
                f"no structure {acronym!r} in atlas {self.name!r}; did you mean "
                f"{', '.join(near) or 'another'}? This slice has {self._offer()}"
            )
        return _and_below(self.structures, rows.to_numpy())

    def regions(self, least_share: float = 0.01) -> list[str]:
        """The finest regions of this slice that do not overlap and are not too small, by acronym.

        From the root down, a region gives way to its parts wherever one of them has at least
        ``least_share`` of the brain's pixels; layers of a cortical area do not count as parts.
        """
        if not 0 < least_share <= 1:
            raise ValueError(f"least_share={least_share} must lie in (0, 1]")
        least = least_share * self.brain_mask.sum()
        structures = self.structures.set_index("id")
        parts = structures.groupby("parent_id").groups
        own = dict(zip(*np.unique(self.annotation, return_counts=True), strict=True))

        def pixels(structure):
            return own.get(structure, 0) + sum(map(pixels, parts.get(structure, ())))

        def is_layer(structure):
            return re.search(r"\blayers?\b", structures.at[structure, "name"], re.IGNORECASE)

        def finest(structure):
            below = [part for part in parts.get(structure, ()) if not is_layer(part)]
            if found := [region for part in below for region in finest(part)]:
                return found
            return [structures.at[structure, "acronym"]] if pixels(structure) >= least else []

        found = [region for root in parts[0] for region in finest(root)]
        if not found:
            raise ValueError(f"no region of atlas {self.name!r} has {least_share:.1%} of it")
        return found

    def roi_masks(self, acronyms: Sequence[str], side: str = "both") -> np.ndarray:
        """Pixels of each region, descendants included, (n_rois, height, width) bool.

        ``side`` is the hemisphere as seen in the image, "left" or "right", or "both". A region
        without a pixel here is an error.
        """
        if isinstance(acronyms, str) or not len(acronyms):
            raise ValueError(f"acronyms must be a list such as ['SSp', 'HPF'], not {acronyms!r}")
        right = np.arange(self.shape[1]) >= self.shape[1] / 2
        sides = {"both": np.ones_like(right), "left": ~right, "right": right}
        if side not in sides:
            raise ValueError(f"side={side!r} must be one of {', '.join(sides)}")
        masks = np.stack([np.isin(self.annotation, self.descendants(a)) for a in acronyms])
        masks &= sides[side]
        empty = [a for a, mask in zip(acronyms, masks, strict=True) if not mask.any()]
        if empty:
            raise ValueError(
                f"{', '.join(empty)} exists but has no pixel in atlas {self.name!r}"
                f"{'' if side == 'both' else f' on its {side} side'}; "
                f"this slice has {self._offer()}"
            )
        return masks

    def resampled(self, shape: tuple[int, int]) -> Atlas:
        """The same slice with fewer pixels: a block's mean brightness and most frequent label."""
        factor = whole_factor(self.shape, shape)
        if not factor:
            height, width = self.shape
            possible = [f for f in (1, 2, 4, 8) if height % f == width % f == 0]
            allowed = ", ".join(f"{height // f}×{width // f}" for f in possible)
            raise ValueError(
                f"cannot resample atlas {self.name!r} of {height}×{width} to "
                f"{'×'.join(map(str, shape))}; reductions such as {allowed} are possible"
            )
        return replace(
            self,
            annotation=_block_majority(self.annotation, factor),
            template=block_mean(self.template, factor),
            pixel_um=self.pixel_um * factor,
        )

    def _offer(self) -> str:
        names = self.acronyms
        return ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")


def _and_below(structures, ids):
    """These ids, and those of everything that hangs from them."""
    found = frontier = ids
    while frontier.size:
        below = structures["parent_id"].isin(frontier)
        frontier = structures.loc[below, "id"].to_numpy()
        found = np.concatenate([found, frontier])
    return found


def whole_factor(fine, coarse) -> int:
    """By which whole number one shape is another on both axes; 0 where there is none."""
    factor = fine[0] // coarse[0] if len(fine) == len(coarse) == 2 and coarse[0] > 0 else 0
    return factor if tuple(fine) == tuple(size * factor for size in coarse) else 0


def block_mean(images: np.ndarray, factor: int) -> np.ndarray:
    """Mean over ``factor`` × ``factor`` blocks of (…, height, width), as float32."""
    *lead, height, width = images.shape
    blocks = np.reshape(images, (*lead, height // factor, factor, width // factor, factor))
    return blocks.mean(axis=(-3, -1), dtype=np.float32)


def _block_majority(labels: np.ndarray, factor: int) -> np.ndarray:
    """Most frequent label of each block; the smallest id where two are equally frequent."""
    ids = np.unique(labels)
    return ids[np.argmax([block_mean(labels == i, factor) for i in ids], axis=0)]


# ---- the CCF's files ----


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
    try:
        return read(path, *options)
    except Exception as error:  # of whichever library
        of_system = isinstance(error, OSError) and error.strerror  # such as no permission
        as_what = "" if of_system else " as a file of the atlas"
        raise ValueError(f"{path} cannot be read{as_what}: {damage(path, error)}") from error


def _voxels(path, n_planes=None):
    """The planes of a volume or of a TIFF's pages, (AP, 320, 456)."""
    voxels = nrrd.read(str(path))[0] if path.suffix == ".nrrd" else tifffile.imread(path)
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
    nodes, todo = [], list(content)
    while todo:
        node = todo.pop(0)
        nodes.append((int(node["id"]), node["acronym"], node["name"], _parent(node)))
        todo = node.get("children", []) + todo
    table = pd.DataFrame(nodes, columns=["id", "acronym", "name", "parent_id"])
    if table.empty or table["id"].duplicated().any():
        raise ValueError("it has no structures, or ids twice")
    if loose := sorted({*table["id"].tolist()} - {*_and_below(table, np.array([0])).tolist()}):
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
