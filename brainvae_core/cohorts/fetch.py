"""Members of a remote zip without the rest of it, whatever the connection does."""

from __future__ import annotations

import random
import re
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

import requests
import urllib3

from brainvae_core.cohorts.sparse import AbsentError, HeldBytes, SparseCopy, merged

CHUNK = 1 << 18  # bytes read at once
TAIL = (1 << 16) + 22 + 20 + 56  # longest comment, end record and the two of zip64
LARGEST_DIRECTORY = 16 << 20
LARGEST_ZIP = 8 << 30
SLOWEST = 1024  # bytes/s; less over a whole timeout is a stall
LONGEST_WAIT = 600  # s; a server that asks for more is left for another run


class FetchError(Exception):
    """The server does not give the file: one line with the URL and what to do next."""


class UnansweredError(FetchError):
    """It may give it later: all tries failed, or it asks to wait for long."""


class _AgainError(Exception):
    """This request failed; the next may not."""

    def __init__(self, reason, after=None):
        super().__init__(reason)
        self.after = after


class _ChangedError(Exception):
    """What came does not continue what is held."""


class RateLimit:
    """Bytes per second over all threads that call it after each piece they read."""

    def __init__(self, bytes_per_second: float, sleep=time.sleep):
        if not bytes_per_second > 0:
            raise ValueError(f"rate limit of {bytes_per_second} bytes/s; give more than 0, or None")
        self.bytes_per_second, self.sleep = bytes_per_second, sleep
        self.paid_until, self.lock = 0.0, threading.Lock()

    def __call__(self, n: int):
        with self.lock:
            now = time.monotonic()
            self.paid_until = max(now, self.paid_until) + n / self.bytes_per_second
            wait = self.paid_until - now
        self.sleep(wait)


def fetch_members(
    session: requests.Session,
    url: str,
    path: str | Path,
    wanted,
    *,
    timeout: float = 30,
    retries: int = 5,
    moved=lambda n: None,
    sleep=time.sleep,
) -> int:
    """Bring members of a remote zip into a sparse local copy that `zipfile` opens.

    Parameters
    ----------
    session : requests.Session
        The thread's own.
    url : str
    path : path
        The copy; ``<path>.json`` beside it says what has come. Both may be a killed process's.
    wanted : callable
        Takes the list of all `ZipInfo` and returns those to bring. Called more than once; what it
        raises ends the fetch.
    timeout : float
        Seconds to connect, between two pieces, and over which 1 KiB/s must come.
    retries : int
        Failures in a row, without a MiB of progress between, after which it is given up.
    moved : callable
        Told the size of every piece that came. What it raises ends the fetch; the copy stays.
    sleep : callable

    Returns
    -------
    int
        Size of the whole zip in bytes.

    Raises
    ------
    FetchError
        The server gives no such file, a web page, a file that keeps changing, or nothing for
        `retries` times in a row.
    StorageError
        The copy cannot be written.
    """
    failures = best = 0
    anew, answered = False, None
    with SparseCopy(Path(path), url) as copy:
        while True:
            try:
                span = _first_missing(copy, wanted)
                if span is None:
                    return copy.total
                if span == answered:  # without this a damaged directory would be asked for ever
                    raise _ChangedError("what came was not what was asked for")
                _request(session, copy, span, timeout, moved)
                answered = span
            except _ChangedError as error:
                copy.begin(None)
                if anew:
                    raise FetchError(
                        f"{error} at {url}, also after starting anew; run the same command later"
                    ) from None
                anew, best, answered = True, 0, None
            except _AgainError as error:
                progress = copy.held() >= best + (1 << 20)
                failures, best = 1 if progress else failures + 1, max(best, copy.held())
                if failures > retries:
                    raise UnansweredError(
                        f"{error} at {url}, {failures} times in a row; run the same command later: "
                        "what has come is kept"
                    ) from None
                backoff = min(60, 2**failures) * random.uniform(0.5, 1)
                wait = backoff if error.after is None else error.after
                if wait > LONGEST_WAIT:
                    raise UnansweredError(
                        f"{error} at {url}, which asks to wait {wait:.0f} s; run the same command "
                        "later: what has come is kept"
                    ) from None
                sleep(wait)


def _first_missing(copy, wanted):
    """The next [start, stop) to ask for; stop None: the file's last bytes; None: all is there."""
    if copy.total is None:
        return -TAIL, None
    try:
        with ZipFile(HeldBytes(copy)) as archive:
            members, end = archive.infolist(), archive.start_dir
        if any(not 0 <= member.header_offset < end for member in members):
            raise BadZipFile("a member lies outside it")
    except AbsentError as absent:
        start, stop = absent.span
        if stop - start > LARGEST_DIRECTORY:
            raise FetchError(
                f"the zip at {copy.url} has a directory of {stop - start} bytes, for a few volumes;"
                " check the address"
            ) from None
        return absent.span
    except (BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise _ChangedError(f"no readable zip ({error})") from None
    borders = sorted({end, copy.total, *(member.header_offset for member in members)})
    spans = [
        (member.header_offset, next(b for b in borders if b > member.header_offset))
        for member in wanted(members)
    ]
    missing = (copy.missing(*span) for span in merged(spans))
    return next((span for span in missing if span is not None), None)


def _request(session, copy, span, timeout, moved):
    """One GET; what has come when it fails is kept."""
    start, stop = span
    headers = {"Accept-Encoding": "identity"}
    headers["Range"] = f"bytes={start}" if stop is None else f"bytes={start}-{stop - 1}"
    if copy.validator:
        headers["If-Range"] = copy.validator
    try:
        with session.get(copy.url, headers=headers, stream=True, timeout=timeout) as response:
            _check_answer(response, copy.url)
            pieces = _pieces(response, timeout, moved)
            if response.status_code == 206:
                _take_part(response, copy, span, pieces)
            else:
                _take_whole(response, copy, pieces)
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _AgainError(f"connection failed ({type(error).__name__})") from None
    except requests.RequestException as error:
        raise FetchError(f"{type(error).__name__} at {copy.url}; check the address") from None
    finally:
        copy.record()


def _check_answer(response, url):
    status, encoding = response.status_code, response.headers.get("Content-Encoding", "identity")
    if status == 429 or status >= 500:
        raise _AgainError(f"HTTP {status}", _retry_after(response.headers.get("Retry-After", "")))
    if status == 416:
        raise _ChangedError("the file is shorter than it was (HTTP 416)")
    if status not in (200, 206):
        raise FetchError(
            f"HTTP {status} at {url}; open the address in a browser, and ask for the experiment's "
            "address again where it is gone"
        )
    if encoding.lower() != "identity":
        raise FetchError(f"the body at {url} is encoded ({encoding}), unasked; check the address")


def _take_part(response, copy, span, pieces):
    found = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", found.strip())
    if match is None:
        raise _ChangedError(f"Content-Range {found!r} came for bytes {span[0]} to {span[1]}")
    first, last, total = map(int, match.groups())
    start, stop = (max(0, total - TAIL), total) if span[1] is None else span
    if first != start or not first <= last < stop or total != (copy.total or total):
        raise _ChangedError(f"Content-Range {found!r} came for bytes {start} to {stop}")
    validator = _validator(response)
    if copy.total is None:
        _check_size(total, copy.url)
        copy.begin(total, validator)
    elif copy.validator and validator and validator != copy.validator:
        raise _ChangedError("the file changed between two requests")
    offset = start
    for piece in pieces:
        piece = piece[: stop - offset]
        copy.write(offset, piece)
        offset += len(piece)
        if offset == stop:
            return
    raise _AgainError(f"{offset - start} of {stop - start} bytes came")


def _take_whole(response, copy, pieces):
    """A server without ranges, or a file that changed: all of it, from the beginning."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= 512:
            break
    if len(head) < 2:
        raise _AgainError("an empty body came")
    kind = response.headers.get("Content-Type", "")
    if not head.startswith(b"PK"):
        if "html" in kind or head.lstrip()[:1] == b"<":
            raise _AgainError(
                "a web page instead of a zip came (of a proxy, a login or maintenance; look at it)"
            )
        raise FetchError(f"{kind or 'data'} instead of a zip came from {copy.url}; check it there")
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    _check_size(total or 0, copy.url)
    copy.begin(total, _validator(response))
    offset = 0
    while head:
        copy.write(offset, head)
        offset += len(head)
        _check_size(offset, copy.url)
        head = next(pieces, b"")
    if copy.total is None and is_zipfile(copy.path):
        copy.total = offset
    if copy.total != offset:
        raise _AgainError(f"{offset} of {copy.total or 'more'} bytes came")


def _check_size(n, url):
    if n > LARGEST_ZIP:
        raise FetchError(
            f"{n / 2**30:.1f} GiB come from {url}; a zip of volumes has less than "
            f"{LARGEST_ZIP >> 30} GiB: check the address"
        )


def _pieces(response, timeout, moved):
    """The body as it comes; a drip is a stall like silence."""
    waited = came = 0
    while True:
        before = time.monotonic()
        piece = response.raw.read1(CHUNK, decode_content=False)
        waited += time.monotonic() - before
        if not piece:
            return
        came += len(piece)
        moved(len(piece))
        yield piece
        if waited > timeout:
            if came < SLOWEST * waited:
                raise _AgainError(f"only {came} bytes came in {waited:.0f} s")
            waited = came = 0


def _validator(response):
    """What If-Range takes: a strong ETag, or the date of the last change."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _retry_after(value):
    """Seconds from a Retry-After of seconds or a date; None where it is neither."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds)
