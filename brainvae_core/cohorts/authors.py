"""The sections that the paper's authors released: a file from an address, an array as a cohort.

Their array holds sections on their side: left to right down the rows, top to bottom along them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from brainvae_core.cohorts.atlas import AUTHORS_CROP, Atlas, whole_factor
from brainvae_core.cohorts.cohort import Cohort
from brainvae_core.cohorts.preprocess import preprocess
from brainvae_core.cohorts.web import (
    AgainError,
    FetchError,
    Meter,
    Session,
    announced,
    check_status,
    content_range,
    persevere,
    pieces,
    translate_errors,
)
from brainvae_core.disk import first_line, sha256_of

BLOCK = 64  # sections that are looked at at once
LARGEST_FILE = 1 << 32  # bytes; the array has about 2³⁰


# ---- the array ----


def read_authors_array(path: str | Path) -> np.ndarray:
    """Sections as they stand, (n, height, width) float32, mapped from the authors' NPY file.

    It holds (n, 456, 320), of which rows 4 to 452 are taken, (n, 1, 448, 320) or (n, 448, 320), or
    one of the last two with as many times fewer pixels on both sides.
    """
    path, read = Path(path), "(n, 456, 320) or (n, 1, 448, 320) of float32 is read"
    if not path.is_file():
        raise ValueError(f"no array at {path}")
    with path.open("rb") as file:
        start = file.read(12)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of pickle or a damaged header
        why = first_line(error) if start[:6] == b"\x93NUMPY" else f"it begins with {start!r}"
        why = "it is a pickle, as checkpoints are" if start[:1] == b"\x80" else why
        raise ValueError(f"{path} is no whole NPY file ({why}); {read}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} holds several arrays, or is a checkpoint or zip; one, {read}")
    shape, dtype = array.shape, array.dtype
    if (size := path.stat().st_size) != array.offset + array.nbytes:
        raise ValueError(f"{path} is damaged: {size} bytes for an array of shape {shape}")
    if dtype.newbyteorder("=") != np.float32:
        raise ValueError(f"{path} holds {dtype} of shape {shape}; {read}")
    if array.ndim == 4 and shape[1] == 1:
        array = array[:, 0]
    if array.shape[1:] == (456, 320):
        array = array[:, AUTHORS_CROP]
    if array.ndim != 3 or not len(array) or not whole_factor((448, 320), array.shape[1:]):
        raise ValueError(
            f"{path} holds an array of shape {shape}; {read}: sections on their side, left to "
            "right down the rows"
        )
    return array.transpose(0, 2, 1)


def authors_cohort(path: str | Path, atlas: Atlas, name: str = "authors") -> Cohort:
    """The authors' array as a cohort: grey values as they are, nothing known of the brains.

    Brains are numbered in the array's order, ``brain-0000`` on. Metadata are what `preprocess`
    finds in the images; its ``gain`` was not applied. A section that is of one grey, not finite or
    not dark outside the brain is refused.

    Parameters
    ----------
    path : path
        An NPY file as `read_authors_array` reads it, with greys in [0, 1].
    atlas : Atlas
        Says what is brain and which region; no grey value depends on it.
    name : str
        As in `Cohort`.
    """
    sections = read_authors_array(path)
    n, width = len(sections), max(4, len(str(len(sections) - 1)))
    blocks = [sections[i : i + BLOCK] for i in range(0, n, BLOCK)]
    low, high = (np.concatenate([f(b, axis=(1, 2)) for b in blocks]) for f in (np.min, np.max))
    finite = np.isfinite(low) & np.isfinite(high)
    if (outside := finite & ((low < 0) | (high > 1))).any():
        raise ValueError(
            f"{path} has greys from {low[finite].min():.9g} to {high[finite].max():.9g}, outside "
            f"[0, 1] in {outside.sum()} of {n} sections; the released are taken to lie in it: "
            "save the array with greys that do"
        )
    brains = pd.DataFrame(index=pd.Index([f"brain-{i:0{width}d}" for i in range(n)], name="id"))
    try:
        found = preprocess(sections, brains, atlas, shape=sections.shape[1:])
        if len(found) < n / 2:
            brain, why = next(iter(found.refused.items()))
            raise ValueError(f"{n - len(found)} of {n} sections are no brains; {brain}: {why}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    kept = brains.index.get_indexer(found.metadata.index)
    for image, i in zip(found.images, kept, strict=True):  # the greys as they are again
        image[:] = sections[i]
    return Cohort(found.images, found.metadata, found.atlas, refused=found.refused, name=name)


# ---- a file from an address ----


def fetch_file(
    url: str,
    path: str | Path,
    check: Callable[[Path], object],
    timeout: float = 30,
    retries: int = 5,
    meter: Meter | None = None,
) -> Path:
    """A file from an address, which appears under its name when it is whole and checked.

    What came of it lies beside as ``.<name>.part``; another call goes on from there if the server
    still has the same file, by its ETag, and begins anew if not. What was fetched from the same
    address before is not fetched again while it is what came, byte for byte.

    ``check`` reads the file and raises ValueError, in one line, where it is not what it should be;
    timeout, retries and meter are as for `fetch_volume`. A `FetchError` says that the server has no
    such file, gives a web page instead, or does not answer.
    """
    path, meter = Path(path), meter or Meter()
    part, about = (path.with_name(f".{path.name}{end}") for end in (".part", ".json"))
    url = re.sub(r"(//www\.dropbox\.com/.*[?&])dl=0", r"\1dl=1", url)  # else a page about the file
    if path.is_file() and _about(about) == {"url": url, "sha256": sha256_of(path)}:
        return path
    with Session() as session:
        persevere(lambda: _fetch_on(session, url, part, about, timeout, meter), url, meter, retries)
    try:
        check(part)
    except ValueError as error:
        part.unlink()
        about.unlink()
        why = str(error).replace(str(part), "what came")
        raise FetchError(f"not the file that is expected came from {url}: {why}") from None
    about.write_text(json.dumps({"url": url, "sha256": sha256_of(part)}))
    os.replace(part, path)
    return path


def _about(path) -> dict:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _fetch_on(session, url, part, about, timeout, meter):
    """One try at the rest of a file."""
    kept = _about(about)
    etag = kept.get("url") == url and kept.get("etag")
    received = part.stat().st_size if part.exists() and etag else 0
    headers = {"Range": f"bytes={received}-", "If-Range": etag} if received else {}
    with translate_errors(url), session.get(url, timeout, headers=headers) as response:
        start, size = _announced(response, url, received, etag, part)
        etag = response.headers.get("ETag", "")
        etag = "" if etag.startswith("W/") else etag  # a weak one says nothing of bytes
        body = pieces(session, response, timeout, LARGEST_FILE - start)
        first = next(body, b"")
        if not start and first.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"<":  # what came is kept
            led = f", which led to {response.url}" if response.url != url else ""
            raise FetchError(f"a web page instead of a file came from {url}{led}")
        about.write_text(json.dumps({"url": url, "etag": etag}))
        bar = tqdm(desc=part.name[1:-5], initial=start, total=size, unit="B", unit_scale=True)
        with part.open("r+b" if start else "wb") as file, bar:
            file.seek(start)
            for piece in chain([first], body):
                file.write(piece)
                bar.update(len(piece))
                meter.count(len(piece))
            file.flush()
            os.fsync(file.fileno())
            received = file.tell()
    if size is not None and received != size:
        if received > size:
            part.unlink()
        raise AgainError(f"{received} of {size} bytes came")


def _announced(response, url, received, etag, part):
    """From where on an answer has the file's bytes, and of what size it is, where it says so."""
    start, stop, size = content_range(response) or (0, 0, 0)
    is_rest = response.status_code == 206 and (start, stop) == (received, size)
    if is_rest and size <= LARGEST_FILE and response.headers.get("ETag", etag) == etag:
        return start, size
    if response.status_code in (206, 416):
        part.unlink(missing_ok=True)
        raise AgainError(f"HTTP {response.status_code} came for other bytes than are missing")
    check_status(response, url, ": the file was moved, or may not be had without asking")
    return 0, announced(response, LARGEST_FILE, url)
