"""Files as the Allen service has them, sound and bad in every way: volumes, a zip, the atlas."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import nibabel
import numpy as np

PLANE = 286
SHAPE = (528, 320, 456)  # AP, DV, ML of the 25 µm grid; AP is the fastest axis of a file
MARGIN = (456 - 448) // 2  # columns on each side that an atlas slice of 448 does not have
CONTENT_FAULTS = (
    *("corrupt_crc", "wrong_dimensions", "wrong_spacing", "missing_red", "zip_slip", "bomb"),
    *("lying_bomb", "duplicate", "wrong_dtype", "truncated_gzip", "short_volume", "constant"),
)
MHD = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
CenterOfRotation = 0 0 0
AnatomicalOrientation = RAI
ElementSpacing = {spacing} {spacing} {spacing}
DimSize = {size}
ElementType = {dtype}
ElementDataFile = resampled_{channel}.raw
"""
NRRD = """NRRD0004
type: {dtype}
dimension: 3
space: left-posterior-superior
sizes: {size}
space directions: ({spacing},0,0) (0,{spacing},0) (0,0,{spacing})
kinds: domain domain domain
endian: little
encoding: gzip
space origin: (0,0,0)

"""


def slabs(planes: dict[int, np.ndarray], dtype: str, columns: int = SHAPE[2]) -> Iterable[bytes]:
    """The bytes of a volume that is zero but for some coronal planes, one ML column at a time."""
    slab = np.zeros((SHAPE[1], SHAPE[0]), dtype)
    for ml in range(columns):
        for ap, plane in planes.items():
            slab[:, ap] = plane[:, ml]
        yield slab.tobytes()


def gzipped(chunks: Iterable[bytes]) -> bytes:
    """A gzip stream of what the chunks hold."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join([*map(deflate.compress, chunks), deflate.flush()])


@dataclass
class Member:
    """One file of a zip, compressed already."""

    name: str
    data: bytes
    crc: int
    size: int
    method: int = zlib.DEFLATED


def stored(name: str, content: bytes) -> Member:
    return Member(name, content, zlib.crc32(content), len(content), 0)


def deflated(name: str, chunks: Iterable[bytes]) -> Member:
    deflate, pieces, crc, size = zlib.compressobj(1, zlib.DEFLATED, -15), [], 0, 0
    for chunk in chunks:
        pieces.append(deflate.compress(chunk))
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    return Member(name, b"".join([*pieces, deflate.flush()]), crc, size)


@lru_cache
def repeated(name: str, value: int, chunk_size: int, times: int) -> Member:
    """A member of one value: its chunk is deflated once, because a full flush makes it repeat."""
    chunk, crc = np.full(chunk_size // 2, value, "<u2").tobytes(), 0
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(chunk) + deflate.flush(zlib.Z_FULL_FLUSH)
    for _ in range(times):
        crc = zlib.crc32(chunk, crc)
    return Member(name, block * times + b"\x03\x00", crc, chunk_size * times)


def zipped(members: list[Member]) -> bytes:
    """A zip of members that are compressed already, in order."""
    body, directory = b"", b""
    for m in members:
        name = m.name.encode()
        sizes = struct.pack("<3I", m.crc, len(m.data), m.size)
        common = struct.pack("<4H", 0, m.method, 0, 0x5941) + sizes
        directory += struct.pack("<4s2H", b"PK\x01\x02", 20, 20) + common
        directory += struct.pack("<5H2I", len(name), 0, 0, 0, 0, 0, len(body)) + name
        body += struct.pack("<4sH", b"PK\x03\x04", 20) + common
        body += struct.pack("<2H", len(name), 0) + name + m.data
    n = len(members)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, n, n, len(directory), len(body), 0)
    return body + directory + end


def header(channel: str, container: str, fault: str | None) -> bytes:
    """What stands before (or, for MetaImage, beside) the voxels of a channel."""
    columns = 448 if fault == "wrong_dimensions" else SHAPE[2]
    size, spacing = (SHAPE[0], SHAPE[1], columns), 50 if fault == "wrong_spacing" else 25
    is_float, in_words = fault == "wrong_dtype", " ".join(map(str, size))
    if container == "mhd":
        dtype = "MET_FLOAT" if is_float else "MET_USHORT"
        return MHD.format(spacing=spacing, size=in_words, dtype=dtype, channel=channel).encode()
    if container == "nrrd":
        dtype = "float" if is_float else "unsigned short"
        return NRRD.format(spacing=spacing, size=in_words, dtype=dtype).encode()
    nifti = nibabel.Nifti1Header()
    nifti.set_data_shape(size)
    nifti.set_data_dtype(np.float32 if is_float else np.uint16)
    nifti.set_xyzt_units("mm")
    affine = np.diag([0, 0, 0, 1.0])
    affine[[1, 2, 0], [0, 1, 2]] = -spacing / 1000  # first voxel: anterior, superior, right
    nifti.set_sform(affine, code=2)
    nifti["pixdim"][1:4], nifti["vox_offset"] = spacing / 1000, 352
    return nifti.binaryblock + bytes(4)


def channel_members(channel, section, container, fault) -> list[Member]:
    """The members of one channel; the neighbours of its plane hold a fainter copy."""
    head = header(channel, container, fault)
    columns = 448 if fault == "wrong_dimensions" else SHAPE[2]
    rows = {PLANE - 1: section // 2, PLANE: section, PLANE + 1: section // 3}
    voxels, name = slabs(rows, "<u2", columns), f"resampled_{channel}"
    if fault == "short_volume":
        voxels = slabs(rows, "<u2", columns - 1)
    if container == "nrrd":
        body = gzipped(voxels)
        cut = len(body) // 2 if fault == "truncated_gzip" else None
        members = [stored(f"{name}.nrrd", head + body[:cut])]
    elif container == "nii.gz":
        body = gzipped([head, *voxels])
        cut = len(body) // 2 if fault == "truncated_gzip" else None
        members = [stored(f"{name}.nii.gz", body[:cut])]
    elif container == "nii":
        members = [deflated(f"{name}.nii", [head, *voxels])]
    else:
        members = [stored(f"{name}.mhd", head), deflated(f"{name}.raw", voxels)]
    return members


def volume_zip(section, container="mhd", fault=None) -> bytes:
    """The zip of one experiment: three channels, of which only red holds the section."""
    if fault == "truncated_gzip" and container != "nii.gz":
        container = "nrrd"
    if fault == "constant":
        section = np.full_like(section, 100)
    red = channel_members("red", section, container, fault)
    if fault == "corrupt_crc":
        red[-1].crc ^= 1
    elif fault == "missing_red":
        red = []
    elif fault == "duplicate":
        red += channel_members("red", section[::-1], container, None)[-1:]
    elif fault in ("bomb", "lying_bomb"):
        bomb = repeated(red[-1].name, 0, 1 << 20, 1024)
        declared = red[-1].size if fault == "lying_bomb" else bomb.size
        red[-1] = Member(bomb.name, bomb.data, bomb.crc, declared)
    blue, green = (
        [
            stored(f"resampled_{channel}.mhd", header(channel, "mhd", None)),
            repeated(f"resampled_{channel}.raw", value, 2 * SHAPE[0] * SHAPE[1], SHAPE[2]),
        ]
        for channel, value in (("blue", 3), ("green", 7))
    )
    members = [*blue, *red, *green]
    if fault == "zip_slip":
        members = [Member("../../" + m.name, m.data, m.crc, m.size, m.method) for m in members]
    return zipped(members)


def full_size(plane: np.ndarray) -> np.ndarray:
    """An atlas slice or a section of 448 columns on the grid's 456."""
    return np.pad(plane, ((0, 0), (MARGIN, MARGIN)))


def atlas_nrrd(plane: np.ndarray, dtype: str) -> bytes:
    """A volume as the service stores it, with one plane that is not zero."""
    name = {"<u4": "unsigned int", "<u2": "unsigned short"}[dtype]
    head = NRRD.format(dtype=name, size=" ".join(map(str, SHAPE)), spacing=25)
    return head.encode() + gzipped(slabs({PLANE: full_size(plane)}, dtype))
