"""One channel's volume out of a remote zip without the rest of it, whatever the connection does.

Nothing is kept before all of it is there and its checksums hold: a fetch that broke off begins
anew. (`remotezip` does not count or slow down what comes, waits for a drip for ever, believes any
Content-Range, and needs a server with ranges.)
"""

from __future__ import annotations

import io
import itertools
import math
import mmap
import random
import re
import threading
import time
import zlib
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
import requests
import urllib3

from brainvae_core.cohorts.orientation import VolumeError, along_axes, check_orientation, either
from brainvae_core.cohorts.volumes import SHAPE_25, Volume, checked_shape, in_micrometres, suffix_of

HEADERS = (".mhd", ".nrrd", ".nii", ".nii.gz")  # a .mhd has its voxels in a .raw
LARGEST = 2 * math.prod(SHAPE_25) + (1 << 20)  # bytes of a member: 16-bit voxels and a header
CHUNK = 1 << 18  # bytes read at once
TAIL = 1 << 17  # holds the longest comment, the end records and the directory of a few volumes
LARGEST_ZIP = 1 << 30
SLOWEST = 1024  # bytes/s; less over a whole timeout is a stall
LONGEST_WAIT = 600  # s; a server that asks for more is left for another run
TRIES = 3  # of a zip that comes damaged
META_TYPES = {"MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"}
META_FIXED = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "HeaderSize": "0"}
META_FIXED |= {"ElementNumberOfChannels": "1", "CompressedData": "False"}


class FetchError(Exception):
    """The server does not give the file: one line with the URL and what to do next."""


class UnansweredError(FetchError):
    """It may give it later: all tries failed, or it asks to wait for long."""


class AgainError(Exception):
    """This try failed; the next may not."""

    def __init__(self, reason, after=None, is_damaged=False):
        super().__init__(reason)
        self.after, self.is_damaged = after, is_damaged


class StoppedError(Exception):
    """Another fetch, or the user, met what ends them all."""


class Meter:
    """What all fetches of a run share: bytes that came, how fast they may come, when to stop."""

    def __init__(self, bytes_per_second: float | None = None, sleep=None):
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.bytes_per_second, self.wait = bytes_per_second or math.inf, sleep or self.stop.wait
        self.n, self.paid_until = 0, 0.0

    def count(self, n: int):
        """Note that n bytes came, and wait as long as they should have taken."""
        with self.lock:
            self.n += n
            now = time.monotonic()
            self.paid_until = max(now, self.paid_until) + n / self.bytes_per_second
            wait = self.paid_until - now
        self.sleep(wait)

    def sleep(self, seconds: float):
        """Wait, unless all is to stop."""
        if seconds > 0:
            self.wait(seconds)
        if self.stop.is_set():
            raise StoppedError


class Fetched(NamedTuple):
    """A channel's volume: its files by name without folder, the header first."""

    contents: dict[str, bytes]
    crc32: int  # of the file with the voxels
    zip_bytes: int
    moved: int = 0  # bytes that came, of all tries


def fetch_volume(
    session: requests.Session,
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
    moved = 0

    def count(n):
        nonlocal moved
        moved += n
        meter.count(n)

    get = partial(_get, session, url, timeout, count)
    return persevere(lambda: _fetch(get, channel), url, meter, retries)._replace(moved=moved)


def persevere(attempt, url: str, meter: Meter, retries: int = 5):
    """What ``attempt()`` gives, tried anew after a failure that may pass, with growing waits."""
    later = "run the same command later"
    for n in itertools.count(1):
        try:
            return attempt()
        except AgainError as error:
            if error.is_damaged and n >= min(TRIES, retries + 1):
                raise FetchError(f"{error}, {n} times, from {url}; {later}") from None
            if n > retries:
                raise UnansweredError(f"{error} at {url}, {n} times in a row; {later}") from None
            wait = error.after
            if wait is None:
                wait = min(60, 2**n) * random.uniform(0.5, 1)
            if wait > LONGEST_WAIT:
                said = f"{error} at {url}, which asks to wait {wait:.0f} s"
                raise UnansweredError(f"{said}; {later}") from None
        meter.sleep(wait)


# ---- the zip ----


def channel_members(members: list[ZipInfo], channel: str) -> list[ZipInfo]:
    """The members that are a channel's one volume: its file, or its ``.mhd`` and data file.

    Raises `VolumeError` where there is none or more than one, and for a name that leads out of a
    folder or a member that is encrypted, packed in an unknown way, or too large for a volume.
    """
    for name in (member.orig_filename for member in members):
        parts = name.split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0] or set(name) & {"\0", "\\"}:
            raise VolumeError(f"the zip has a member of the unsafe name {name!r}")
    stem = f"resampled_{channel}."
    own = [m for m in members if Path(m.filename).name.lower().startswith(stem)]
    headers = [m for m in own if suffix_of(Path(m.filename)) in HEADERS]
    data = [m for m in own if suffix_of(Path(m.filename)) == ".raw"]
    if len(headers) != 1 or len(data) != headers[0].filename.lower().endswith(".mhd"):
        there = ", ".join(repr(m.orig_filename) for m in members[:6]) or "nothing"
        raise VolumeError(f"the zip must have one volume of channel {channel}; it has {there}")
    for member in (*headers, *data):
        if member.file_size > LARGEST:
            said = f"{member.filename} would inflate to {member.file_size} bytes"
            raise VolumeError(f"{said}; a volume on the 25 µm grid has at most {LARGEST}")
        if member.flag_bits & 0x61 or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise VolumeError(f"{member.filename} is neither stored nor deflated in plain")
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
    """[start, stop) of a file of some size, or its end (None), or all of it; and its size."""
    asked = f"{span[0]}-{span[1] - 1}" if span else f"-{TAIL}"
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={asked}"}
    content = bytearray()
    try:
        with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            expected, size = _announced(response, url, span)
            for piece in pieces(response, timeout):
                content += piece
                count(len(piece))
                if response.status_code == 200 and content[:2] not in (b"P", b"PK"):
                    kind = response.headers.get("Content-Type", "of no type")
                    kind = "a web page" if "html" in kind else f"data ({kind})"
                    raise AgainError(f"{kind} instead of a zip came (of a proxy or maintenance?)")
                if len(content) > (expected or LARGEST_ZIP):
                    break
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise AgainError(f"connection failed ({type(error).__name__})") from None
    except requests.RequestException as error:
        raise FetchError(f"{type(error).__name__} at {url}; check the address") from None
    if len(content) != (expected or min(len(content), LARGEST_ZIP)):
        raise AgainError(f"{len(content)} of {expected or LARGEST_ZIP} bytes came")
    return content, size or len(content)


def _announced(response, url, span):
    """How many bytes an answer says that come, and of what size the file is, where it does."""
    status, headers = response.status_code, response.headers
    if status in (416, 429) or status >= 500:
        raise AgainError(f"HTTP {status}", retry_after(headers.get("Retry-After", "")))
    if status not in (200, 206):
        raise FetchError(
            f"HTTP {status} at {url}; open the address in a browser, and ask for the experiment's "
            "address again where it is gone"
        )
    if status == 200:
        expected = size = int(headers.get("Content-Length") or 0)
    else:
        said = headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", said.strip())
        start, last, size = map(int, found.groups()) if found else (0, 0, 0)
        if (start, last + 1, size) != (span or (max(0, size - TAIL), size, size)):
            raise AgainError(f"Content-Range {said!r} came for other bytes")
        expected = last + 1 - start
    if size > LARGEST_ZIP:
        raise FetchError(f"{size} bytes would come from {url}, too many for a zip; check it there")
    return expected, size


def pieces(response, timeout):
    """The body as it comes; a drip is a stall like silence."""
    waited = came = 0
    while True:
        before = time.monotonic()
        piece = response.raw.read1(CHUNK, decode_content=False)
        waited += time.monotonic() - before
        if not piece:
            return
        came += len(piece)
        yield piece
        if waited > timeout:
            if came < SLOWEST * waited:
                raise AgainError(f"only {came} bytes came in {waited:.0f} s")
            waited = came = 0


def retry_after(value):
    """Seconds from a Retry-After of seconds or a date; None where it is neither."""
    try:
        return urllib3.Retry().parse_retry_after(value)
    except urllib3.exceptions.InvalidHeader:
        return None


def read_metaimage(contents: dict[str, bytes]) -> Volume:
    """The volume of a MetaImage header (the first file) and of the data file that it names."""
    head = next(iter(contents.values()))[: 1 << 16].decode("latin-1")
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
    content = contents.get(fields.get("ElementDataFile"))
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
        said = fields.get("AnatomicalOrientation", "???").lower()
        if "?" not in said:
            check_orientation(said)
            fields_said = {"TransformMatrix": orientation or said, "AnatomicalOrientation": said}
            orientation = either(fields_said)
    except ValueError as error:
        raise VolumeError(str(error)) from error
    if len(content) != expected:
        raise VolumeError(f"{len(content)} bytes of voxels; the header says {expected}")
    voxels = np.frombuffer(content, dtype).reshape(shape, order="F")
    return Volume(voxels, spacing, orientation)
