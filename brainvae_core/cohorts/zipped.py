"""One plane of a channel's volume in a zip, checked before and while it is inflated.

Nothing is extracted: members are streams, and their names never become paths.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from brainvae_core.cohorts.volumes import (
    CCF_SHAPE_25,
    VolumeError,
    axis_order,
    read_header,
    read_plane,
)

HEADERS = (".mhd", ".nrrd", ".nii", ".nii.gz")
DATA = (".raw", ".zraw")  # of a .mhd
PIECE = 1 << 17  # bytes inflated at once: they stay in the cache for their checksum
LARGEST_HEADER = 1 << 16  # bytes of a .mhd
LARGEST = 2 * prod(CCF_SHAPE_25) + (1 << 20)  # bytes of a member: 16-bit voxels and a header


class DamagedError(Exception):
    """Bytes are not those that were zipped; fetched again they may be."""


def channel_members(members: list[ZipInfo], channel: str) -> list[ZipInfo]:
    """The members that are a channel's one volume: its file, or its ``.mhd`` and data file.

    Parameters
    ----------
    members : list of ZipInfo
        All of the zip.
    channel : str
        The volume is ``resampled_<channel>`` in any folder of the zip.

    Raises
    ------
    VolumeError
        No such volume or more than one, a name that leads out of a folder, a member that is
        encrypted, packed in an unknown way, or larger than a volume can be.
    """
    for member in members:
        name = member.orig_filename
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in name or "\\" in name:
            raise VolumeError(f"the zip has a member of the unsafe name {name!r}")
    own = [m for m in members if _name(m).startswith(f"resampled_{channel}.".lower())]
    headers = [m for m in own if _name(m).endswith(HEADERS)]
    data = [m for m in own if _name(m).endswith(DATA)]
    if not headers:
        there = ", ".join(repr(m.orig_filename) for m in members[:6]) or "nothing"
        raise VolumeError(f"the zip has no volume of channel {channel}; it has {there}")
    is_pair = _name(headers[0]).endswith(".mhd")
    if len(headers) > 1 or len(data) != is_pair:
        there = ", ".join(repr(m.orig_filename) for m in own[:6])
        raise VolumeError(f"the zip must have one volume of channel {channel}; it has {there}")
    for member in (*headers, *data):
        limit = LARGEST_HEADER if is_pair and member is headers[0] else LARGEST
        if member.file_size > limit:
            raise VolumeError(
                f"{member.filename} would inflate to {member.file_size} bytes; a volume on the "
                f"25 µm grid has at most {limit}"
            )
        if member.flag_bits & 0x61 or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise VolumeError(f"{member.filename} is neither stored nor deflated in plain")
    return [*headers, *data]


def read_zipped_plane(path: str | Path, channel: str, plane: int) -> tuple[np.ndarray, int]:
    """A coronal plane of a channel's volume in a zip, with every byte of it read and checked.

    Parameters
    ----------
    path : path
        Zip whose members of the channel are there; others need not be.
    channel : str
    plane : int
        Index on the AP axis.

    Returns
    -------
    plane : ndarray, shape (320, 456)
        In the volume's own dtype, little-endian.
    crc32 : int
        Of the member that holds the voxels.

    Raises
    ------
    DamagedError
        A checksum fails.
    VolumeError
        Checksums hold, and the content is no volume on the CCF's 25 µm grid.
    """
    try:
        with ZipFile(path) as archive:
            members = channel_members(archive.infolist(), channel)
            try:
                return _read(archive, members, plane), members[-1].CRC
            except (BadZipFile, zlib.error, gzip.BadGzipFile, EOFError, VolumeError) as error:
                # What reads like a wrong volume may be a right one that came damaged.
                for member in members:
                    with archive.open(member) as stream:
                        _drain(stream)
                raise VolumeError(str(error)) from error
    except (BadZipFile, zlib.error, EOFError) as error:
        raise DamagedError(f"the zip came damaged ({error})") from error


def _read(archive, members, plane):
    head, data = members[0], members[-1]
    with archive.open(head) as stream:
        packed = _name(head).endswith(".gz")
        plain = gzip.GzipFile(fileobj=stream) if packed else _InPieces(stream)
        header = read_header(plain, head.filename)
        if len(members) == 1:
            size = None if packed or header.compression else head.file_size - header.data_offset
            found = _checked_plane(plain, header, size, plane)
        _drain(stream)
    if len(members) == 2:
        if header.data_file != data.filename.rpartition("/")[2]:
            raise VolumeError(f"{head.filename} names the data file {header.data_file}, not there")
        with archive.open(data) as stream:
            size = None if header.compression else data.file_size
            found = _checked_plane(_InPieces(stream), header, size, plane)
            _drain(stream)
    return found


def _checked_plane(stream, header, size, plane):
    if sorted(header.shape) != sorted(CCF_SHAPE_25):
        raise VolumeError(
            f"volume is of {' × '.join(map(str, header.shape))} voxels; "
            f"{' × '.join(map(str, CCF_SHAPE_25))} in any order are read"
        )
    axes = axis_order(header)
    if header.dtype.kind not in "iu" or header.dtype.itemsize > 2:
        raise VolumeError(f"voxels are {header.dtype}; whole numbers of 8 or 16 bit are read")
    if header.scaling != (1, 0):
        raise VolumeError(f"voxels are scaled by {header.scaling}; greys as they are are read")
    expected = prod(header.shape) * header.dtype.itemsize
    if size not in (None, expected):
        raise VolumeError(f"zip declares {size} bytes of voxels; the header says {expected}")
    found = read_plane(stream, header, axes, plane)
    if found.min() == found.max() or found.min() < 0:
        raise VolumeError(f"plane {plane} has grey values {found.min()} to {found.max()} only")
    return found.astype(found.dtype.newbyteorder("<"))


class _InPieces:
    """A member's bytes in pieces that are small, however many are asked for."""

    def __init__(self, stream):
        self.stream = stream

    def read(self, n):
        return self.stream.read(min(n, PIECE))


def _drain(stream):
    """`zipfile` compares the CRC when the last byte is read."""
    while stream.read(PIECE):
        pass


def _name(member):
    return member.filename.rpartition("/")[2].lower()
