"""What the header of a volume says, whichever of three formats it is of."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import permutations
from typing import BinaryIO

import nibabel as nib
import nrrd
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

CCF_EXTENT_UM = (13200.0, 8000.0, 11400.0)  # AP, DV, ML
HEADER_LIMIT = 64 * 1024
NIFTI_EXTENSION_LIMIT = 1 << 24
LONGEST_AXIS = 32_767
_NIFTI_HEADERS = (nib.Nifti1Header, nib.Nifti2Header)

_META_TYPES = {
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NRRD_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "f4": "float",
    "f8": "double",
}
_OPPOSITE = dict(zip("RLAPSI", "lrpais", strict=True))  # where an axis goes to → comes from


class VolumeError(ValueError):
    """A volume whose header or content cannot be used; the message is one line."""


@dataclass(frozen=True)
class VolumeHeader:
    """What a volume's header says about its voxels.

    Attributes
    ----------
    shape : tuple of int
        Sizes of the file's axes, the fastest first.
    dtype : numpy.dtype
        Of the stored voxels, byte order included.
    spacing_um : tuple of float, or None
        Distance between voxels on each axis in micrometres.
    orientation : str or None
        Where each axis comes from, such as ``"asr"`` (anterior, superior, right); None where the
        format does not say so reliably.
    compression : str or None
        None, ``"gzip"`` or ``"zlib"``: how the voxels are stored.
    data_file : str or None
        Name of the file beside the header that holds the voxels; None: they follow the header.
    data_offset : int
        Bytes of the header's own stream before its first voxel; 0 with a `data_file`.
    reversed_axes : tuple of bool
        Axes that the header's matrix runs backwards, where there is no `orientation`.
    scaling : tuple of float
        Slope and intercept that turn stored into measured values.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    spacing_um: tuple[float, float, float] | None
    orientation: str | None
    compression: str | None
    data_file: str | None
    data_offset: int = 0
    reversed_axes: tuple[bool, bool, bool] = (False, False, False)
    scaling: tuple[float, float] = (1.0, 0.0)


def read_metaimage_header(text: bytes) -> VolumeHeader:
    """The header of a MetaImage, ``.mhd`` or the start of ``.mha``.

    Parameters
    ----------
    text : bytes
        Everything up to and with the line ``ElementDataFile``, at most 64 KB.

    Raises
    ------
    VolumeError
        No MetaImage header of one 3-D binary volume of one channel.
    """
    fields = _metaimage_fields(text)
    for name, allowed in (
        ("ObjectType", ("Image",)),
        ("NDims", ("3",)),
        ("BinaryData", ("True",)),
        ("ElementNumberOfChannels", ("1",)),
        # -1 says that the voxels end the file: then nothing may precede them, and `read_plane`
        # notices where something does.
        ("HeaderSize", ("0", "-1")),
    ):
        value = fields.get(name, allowed[0])
        if value not in allowed:
            raise VolumeError(f"MetaImage has {name} = {value}; {' or '.join(allowed)} is read")
    kind = fields["ElementType"]
    if kind not in _META_TYPES:
        raise VolumeError(f"MetaImage has ElementType = {kind}; {', '.join(_META_TYPES)} are read")
    orders = [n for n in ("ElementByteOrderMSB", "BinaryDataByteOrderMSB") if n in fields]
    is_big = {_truth(fields, name) for name in orders}
    if len(is_big) > 1:
        raise VolumeError(f"MetaImage contradicts itself in {' and '.join(orders)}")
    shape = _checked_shape(_numbers(fields, "DimSize", 3, int))
    spacing, backwards = None, (False, False, False)
    if "ElementSpacing" in fields:
        spacing = _to_micrometres(_numbers(fields, "ElementSpacing", 3), shape)
    if "TransformMatrix" in fields:
        _, backwards = _along_axes(np.reshape(_numbers(fields, "TransformMatrix", 9), (3, 3)))
    data_file = fields["ElementDataFile"]
    if data_file in ("", "LIST", ".", "..") or set(data_file) & set("/\\%"):
        raise VolumeError(
            f"MetaImage has ElementDataFile = {data_file}; the name of one file beside the header, "
            "or LOCAL, is read"
        )
    local = data_file.upper() == "LOCAL"
    return VolumeHeader(
        shape=shape,
        dtype=np.dtype(_META_TYPES[kind]).newbyteorder("big" if True in is_big else "little"),
        spacing_um=spacing,
        orientation=None,
        compression="zlib" if _truth(fields, "CompressedData") else None,
        data_file=None if local else data_file,
        data_offset=len(text) if local else 0,
        reversed_axes=backwards,
    )


def read_header(stream: BinaryIO, name: str) -> VolumeHeader:
    """The header at the start of a stream, which is left at the byte after it.

    Parameters
    ----------
    stream : binary file or anything with ``read(n)``
        Of a ``.nii.gz`` its plain bytes: ``gzip.GzipFile(fileobj=stream)``.
    name : str
        File name; its suffix names the format: .nrrd, .nii, .nii.gz, .mhd or .mha.

    Returns
    -------
    VolumeHeader
        The voxels follow in `stream` unless `data_file` names another file.

    Raises
    ------
    VolumeError
        Another format, or a header that is damaged or of no 3-D volume of grey values.
    """
    lower = name.lower()
    if lower.endswith((".nii", ".nii.gz")):
        return _read_nifti_header(stream)
    if lower.endswith(".nrrd"):
        return _nrrd_header(_read_lines(stream, lambda line: not line.strip()))
    if lower.endswith((".mhd", ".mha")):
        lines = _read_lines(stream, lambda line: line.lstrip().startswith(b"ElementDataFile"))
        return read_metaimage_header(b"".join(lines))
    raise VolumeError(
        f"{name} is of a format that is not read; .mhd, .mha, .nrrd and .nii[.gz] are"
    )


def _metaimage_fields(text):
    if len(text) > HEADER_LIMIT:
        raise VolumeError(f"MetaImage header is longer than {HEADER_LIMIT} bytes")
    lines = text.decode("latin-1").splitlines()
    pairs = (line.partition("=") for line in lines if line.strip())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    for name in ("DimSize", "ElementType", "ElementDataFile"):
        if name not in fields:
            raise VolumeError(f"MetaImage header has no {name}")
    return fields


def _truth(fields, name):
    value = fields.get(name, "False")
    if value.lower() not in ("true", "false"):
        raise VolumeError(f"MetaImage has {name} = {value}; True or False is read")
    return value.lower() == "true"


def _numbers(fields, name, count, kind=float):
    try:
        values = [kind(v) for v in fields[name].split()]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise VolumeError(f"MetaImage has {name} = {fields[name]}; {count} numbers are read")
    return values


def _nrrd_header(lines):
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # of a damaged header's numbers
            fields = nrrd.read_header(lines)
    except (nrrd.NRRDError, ValueError, OverflowError, StopIteration) as error:
        raise VolumeError(f"no NRRD header ({_one_line(error)})") from error
    for name in ("type", "encoding", "sizes"):
        if name not in fields:
            raise VolumeError(f"NRRD header has no field {name}")
    if {"data file", "datafile"} & set(fields):
        raise VolumeError("NRRD header names a detached data file; one file with both is read")
    if any(fields.get(k, 0) for k in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise VolumeError("NRRD header skips lines or bytes before the voxels; none may be skipped")
    if fields["encoding"] not in ("raw", "gzip", "gz"):
        raise VolumeError(f"NRRD encoding {fields['encoding']!r} is not read; raw and gzip are")
    code = next((c for c, names in _NRRD_TYPES.items() if fields["type"] in names.split(", ")), "")
    if not code:
        raise VolumeError(f"NRRD type {fields['type']!r} is not read; {', '.join(_NRRD_TYPES)} are")
    endian = fields.get("endian", "little" if code.endswith("1") else None)
    if endian not in ("little", "big"):
        raise VolumeError(f"NRRD header has endian {endian}; little or big is read")
    shape = _checked_shape(fields["sizes"])
    spacing, backwards = fields.get("spacings"), (False, False, False)
    if "space directions" in fields:
        spacing, backwards = _along_axes(fields["space directions"])
    return VolumeHeader(
        shape=shape,
        dtype=np.dtype(code).newbyteorder(endian),
        spacing_um=None if spacing is None else _to_micrometres(spacing, shape),
        orientation=None,
        compression=None if fields["encoding"] == "raw" else "gzip",
        data_file=None,
        data_offset=sum(map(len, lines)),
        reversed_axes=backwards,
    )


def _read_nifti_header(stream):
    start = _read_up_to(stream, 4)
    sizes = {k.sizeof_hdr.to_bytes(4, o): k for k in _NIFTI_HEADERS for o in ("little", "big")}
    if start not in sizes:
        gzipped = start.startswith(b"\x1f\x8b")
        hint = "; pass its plain bytes, gzip.GzipFile(fileobj=stream)" if gzipped else ""
        raise VolumeError(f"no NIfTI header{hint}")
    kind = sizes[start]
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # of a damaged header's numbers
            header = kind.from_fileobj(io.BytesIO(start + _read_up_to(stream, kind.sizeof_hdr - 4)))
            shape, dtype = header.get_data_shape(), header.get_data_dtype()
            offset = max(header.get_data_offset(), header.single_vox_offset)
            spacing = header.get_zooms()[:3]
            slope, intercept = header.get_slope_inter()
            affine = header.get_best_affine()
    except (HeaderDataError, WrapStructError, ValueError, OverflowError) as error:
        raise VolumeError(f"no NIfTI header ({_one_line(error)})") from error
    if header["magic"].item() != header.single_magic:
        raise VolumeError("NIfTI header is one of a pair of files; a single .nii is read")
    if dtype.kind not in "iuf":
        raise VolumeError(f"NIfTI voxels are {dtype}; grey values are read")
    shape = _checked_shape(shape[:3] if set(shape[3:]) <= {1} else shape)
    orientation = None
    if header["sform_code"] > 0 or header["qform_code"] > 0:
        spacing, _ = _along_axes(affine[:3, :3].T)
        orientation = "".join(_OPPOSITE[letter] for letter in nib.aff2axcodes(affine))
    if offset > NIFTI_EXTENSION_LIMIT:
        raise VolumeError(f"NIfTI voxels start at byte {offset}; extensions so long are not read")
    _read_up_to(stream, offset - kind.sizeof_hdr)
    return VolumeHeader(
        shape=shape,
        dtype=dtype,
        spacing_um=_to_micrometres(spacing, shape),
        orientation=orientation,
        compression=None,
        data_file=None,
        data_offset=offset,
        scaling=(1.0, 0.0) if slope is None else (slope, intercept),
    )


def _read_lines(stream, is_last):
    """Header lines up to the first that is the last, and no byte more."""
    lines, line, n_bytes = [], bytearray(), 0
    while byte := stream.read(1):
        line += byte
        n_bytes += 1
        if n_bytes > HEADER_LIMIT:
            raise VolumeError(f"no end of the header within {HEADER_LIMIT} bytes")
        if byte == b"\n":
            lines.append(bytes(line))
            if is_last(line):
                return lines
            line.clear()
    return [*lines, bytes(line)]


def _read_up_to(stream, count):
    parts = []
    while count and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _one_line(error):
    return str(error).partition("\n")[0]


def _checked_shape(sizes):
    shape = tuple(int(s) for s in sizes)
    if len(shape) != 3 or not all(1 <= s <= LONGEST_AXIS for s in shape):
        raise VolumeError(
            f"volume has sizes {' × '.join(map(str, shape))}; three from 1 to {LONGEST_AXIS} are "
            "read"
        )
    return shape


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


def _to_micrometres(spacing, shape):
    """Headers give micrometres or millimetres and seldom say which: what fits the atlas is it."""
    in_um = tuple(abs(float(s)) for s in spacing)
    if len(in_um) != 3 or not all(0 < s < np.inf for s in in_um):
        raise VolumeError(f"voxel spacing {in_um} is not three lengths above 0")
    in_mm = tuple(round(1000 * s, 6) for s in in_um)
    if match_extents(shape, in_um, CCF_EXTENT_UM):
        return in_um
    return in_mm if match_extents(shape, in_mm, CCF_EXTENT_UM) or max(in_um) < 1 else in_um


def match_extents(shape, spacing_um, extents_um, tolerance=0.5):
    """Which of AP, DV and ML (0, 1, 2) each axis is by its extent to a part of a voxel, or None."""
    found = [
        [i for i, extent in enumerate(extents_um) if abs(n * d - extent) <= tolerance * d]
        for n, d in zip(shape, spacing_um, strict=True)
    ]
    fits = [order for order in permutations(range(3)) if all(map(list.__contains__, found, order))]
    return list(fits[0]) if len(fits) == 1 else None
