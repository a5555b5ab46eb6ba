"""One channel's volume out of a remote zip without the rest of it, whatever the connection does.

Nothing is kept before all of it is there and its checksums hold: a fetch that broke off begins
anew. (`remotezip` does not count or slow down what comes, waits for a drip for ever, believes any
Content-Range, and needs a server with ranges.)
"""

from __future__ import annotations

import io
import math
import mmap
import re
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo, is_zipfile

import numpy as np

from brainvae_core.cohorts.orientation import VolumeError, along_axes, check_orientation, either
from brainvae_core.cohorts.volumes import SHAPE_25, Volume, checked_shape, in_micrometres, suffix_of
from brainvae_core.cohorts.web import (
    AgainError,
    Meter,
    Session,
    announced,
    check_status,
    content_range,
    persevere,
    pieces,
    too_large,
    translate_errors,
)

META = (".mhd", ".mha")  # a .mhd has its voxels in a .raw or .zraw
HEADERS = (*META, ".nrrd", ".nii", ".nii.gz")
LARGEST = 2 * math.prod(SHAPE_25) + (1 << 20)  # bytes of a member: 16-bit voxels and a header
TAIL = 1 << 17  # holds the longest comment, the end records and the directory of a few volumes
LARGEST_ZIP = 1 << 30
GONE = "; open the address in a browser, and ask for the experiment's again where it is gone"
META_TYPES = {"MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"}
META_FIXED = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "HeaderSize": "0"}
META_FIXED |= {"ElementNumberOfChannels": "1"}


class RangeError(AgainError):
    """Another part came than was asked for: the next try asks for the whole file."""


class Fetched(NamedTuple):
    """A channel's volume: its files by name without folder, the header first."""

    contents: dict[str, bytes]
    crc32: int  # of the file with the voxels
    zip_bytes: int
    moved: int = 0  # bytes that came, of all tries


def fetch_volume(
    session: Session,
    url: str,
    channel: str,
    meter: Meter,
    timeout: float = 30,
    retries: int = 5,
) -> Fetched:
    """The files that are a channel's volume, ``resampled_<channel>`` in any folder of the zip.

    ``timeout`` is in seconds: to connect, between two pieces, and over which 1 KiB/s must come;
    ``retries`` are failures after the first, of a zip that comes damaged 3 tries at most. Raises
    `FetchError` where the server gives no such file, or nothing in all tries, and `VolumeError`
    where the zip is not one that has this volume.
    """
    moved, in_ranges = 0, True

    def count(n):
        nonlocal moved
        moved += n
        meter.count(n)

    def get(span):
        return _get(session, url, timeout, count, span if in_ranges else False)

    def attempt():
        nonlocal in_ranges
        try:
            return _fetch(get, channel)
        except RangeError:
            in_ranges = False
            raise

    return persevere(attempt, url, meter, retries)._replace(moved=moved)


# ---- the zip ----


def channel_members(members: list[ZipInfo], channel: str) -> list[ZipInfo]:
    """The members that are a channel's one volume: its file, or its ``.mhd`` and data file.

    Raises `VolumeError` where there is none or more than one, and for a name that leads out of a
    folder or a member that is encrypted, packed in an unknown way, or too large for a volume.
    """
    for name in (member.orig_filename for member in members):
        parts = name.split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0] or set(name) & {"\0", "\\"}:
            raise VolumeError(f"the zip has a member of the unsafe name {name[:100]!r}")
    stem = f"resampled_{channel}."
    own = [m for m in members if Path(m.filename).name.lower().startswith(stem)]
    headers = [m for m in own if suffix_of(Path(m.filename)) in HEADERS]
    data = [m for m in own if suffix_of(Path(m.filename)) in (".raw", ".zraw")]
    if len(headers) != 1 or len(data) != headers[0].filename.lower().endswith(".mhd"):
        there = ", ".join(repr(m.orig_filename[:100]) for m in members[:6]) or "nothing"
        raise VolumeError(f"the zip must have one volume of channel {channel}; it has {there}")
    for member in (*headers, *data):
        if member.file_size > LARGEST:
            why = f"{member.filename[:100]} would inflate to {member.file_size} bytes"
            raise VolumeError(f"{why}; a volume on the 25 µm grid has at most {LARGEST}")
        if member.flag_bits & 0x61 or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise VolumeError(f"{member.filename[:100]} is neither stored nor deflated in plain")
    return [*headers, *data]


class _Sparse(mmap.mmap):
    """A file of the zip's size, of which only what is written takes memory."""

    def seekable(self):
        return True


def _fetch(get, channel):
    content, size = get(None)
    if len(content) == size:
        return _checked(io.BytesIO(content), channel, size)
    file = _Sparse(-1, size)
    file[-len(content) :] = content
    with _damage(), ZipFile(file) as archive:
        members, end = archive.infolist(), archive.start_dir
        if any(not 0 <= member.header_offset < end for member in members):
            raise BadZipFile("a member lies outside it")
    for member in channel_members(members, channel):
        start = member.header_offset
        stop = min((m.header_offset for m in members if m.header_offset > start), default=end)
        content, total = get((start, stop, size))
        if len(content) == total:  # not the part: a server without ranges
            return _checked(io.BytesIO(content), channel, total)
        file[start:stop] = content
    return _checked(file, channel, size)


def _checked(file, channel, size):
    """All bytes of the members, and no more than the directory says that there are."""
    with _damage():
        archive = ZipFile(file)
    contents = {}
    for member in channel_members(archive.infolist(), channel):
        content = contents[Path(member.filename).name] = bytearray()
        with _damage(), archive.open(member) as stream:  # which compares the checksum at its end
            while piece := stream.read(1 << 20):  # a member that lies of its size fills no memory
                content += piece
    return Fetched(contents, member.CRC, size)


@contextmanager
def _damage():
    try:
        yield
    except (BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise AgainError(f"the zip came damaged ({error})", is_damaged=True) from error


# ---- the server ----


def _get(session, url, timeout, count, span):
    """[start, stop) of a file of some size, its end (None) or all (False); and the file's size."""
    content, headers = bytearray(), {}
    if span is not False:
        headers["Range"] = f"bytes={span[0]}-{span[1] - 1}" if span else f"bytes=-{TAIL}"
    with translate_errors(url), session.get(url, timeout, headers=headers) as response:
        expected, size = _announced(response, url, span)
        for piece in pieces(session, response, timeout, expected or LARGEST_ZIP):
            content += piece
            count(len(piece))
            if response.status_code == 200 and content[:64].lstrip()[:1] == b"<":
                raise AgainError("a web page instead of a zip came (of a proxy or maintenance?)")
    if expected not in (None, len(content)):
        raise AgainError(f"{len(content)} of {expected} bytes came")
    is_whole = response.status_code == 200
    if is_whole and content[:2] != b"PK" and not is_zipfile(io.BytesIO(content)):
        kind = response.headers.get("Content-Type", "of no type")[:100]
        raise AgainError(f"data ({kind}) instead of a zip came", is_damaged=True)
    return content, size or len(content)


def _announced(response, url, span):
    """How many bytes an answer says that come, and of what size the file is, where it does."""
    if response.status_code in (400, 416, 501) and span is not False:
        raise RangeError(f"HTTP {response.status_code}")
    check_status(response, url, GONE, good=(200, 206))
    if response.status_code == 200:
        return (announced(response, LARGEST_ZIP, url),) * 2
    start, stop, size = content_range(response) or (0, 0, 0)
    if not size or (start, stop, size) != (span or (max(0, size - TAIL), size, size)):
        stated = response.headers.get("Content-Range", "")[:100]
        raise RangeError(f"Content-Range {stated!r} came for other bytes")
    if size > LARGEST_ZIP:
        raise too_large(size, LARGEST_ZIP, url)
    return stop - start, size


# ---- MetaImage ----


def read_metaimage(contents: dict[str, bytes]) -> Volume:
    """The volume of a MetaImage header (the first file) and of the data that it holds or names."""
    first = next(iter(contents.values()))
    local = re.search(rb"^ElementDataFile *= *LOCAL *\r?\n", first[: 1 << 16], re.M)
    head = first[: local.end() if local else 1 << 16].decode("latin-1")
    lines = (line.partition("=") for line in head.splitlines())
    fields = META_FIXED | {name.strip(): value.strip() for name, _, value in lines}
    for name, value in META_FIXED.items():
        if fields[name] != value:
            raise VolumeError(f"MetaImage has {name} = {fields[name]}; {value} is read")
    orders = {fields[k] for k in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB") if k in fields}
    kind = META_TYPES.get(fields.get("ElementType"))
    if kind is None or not (orders <= {"True"} or orders <= {"False"}):
        raise VolumeError(
            f"MetaImage has ElementType = {fields.get('ElementType')}, byte order MSB = {orders}; "
            f"{', '.join(META_TYPES)} in one byte order are read"
        )
    dtype = np.dtype(kind).newbyteorder(">" if "True" in orders else "<")
    named = contents.get(fields.get("ElementDataFile"))
    content = memoryview(first)[local.end() :] if local else named
    if content is None:
        raise VolumeError(f"names the data file {fields.get('ElementDataFile')}, not there")
    spacing, orientation = fields.get("ElementSpacing"), None
    try:
        shape = checked_shape(fields.get("DimSize", "").split())
        expected = math.prod(shape) * dtype.itemsize
        spacing = in_micrometres(spacing and spacing.split(), shape)
        if "TransformMatrix" in fields:
            matrix = np.array(fields["TransformMatrix"].split(), float).reshape(3, 3)
            _, orientation = along_axes(matrix, "lps")
        code = fields.get("AnatomicalOrientation", "???").lower()
        if "?" not in code:
            check_orientation(code)
            by_field = {"TransformMatrix": orientation or code, "AnatomicalOrientation": code}
            orientation = either(by_field)
        if fields.get("CompressedData", "False") != "False":
            stream = zlib.decompressobj(47)  # of zlib or gzip, by its beginning
            content = stream.decompress(content, expected + 1)
            if not stream.eof:  # where its checksum stands
                raise VolumeError("compressed voxels have no end where the header says it")
    except (ValueError, OverflowError, zlib.error) as error:
        raise VolumeError(str(error)) from error
    if len(content) != expected:
        raise VolumeError(f"{len(content)} bytes of voxels; the header says {expected}")
    voxels = np.frombuffer(content, dtype).reshape(shape, order="F")
    return Volume(voxels, spacing, orientation)
