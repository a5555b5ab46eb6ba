"""A file of which only some ranges have come, and a record of them that survives the process."""

from __future__ import annotations

import io
import json
import os
from contextlib import contextmanager
from pathlib import Path

CHECKPOINT = 4 << 20  # bytes that are fetched again after a kill, at most


class StorageError(Exception):
    """The disk does not take what comes (full, read-only): trying on is no use."""


class AbsentError(Exception):
    """A reader asked for bytes that have not come yet; `span` is their [start, stop)."""

    def __init__(self, span):
        super().__init__(span)
        self.span = span


@contextmanager
def writing(path):
    """Tell errors of the local disk from those of the network: OSError becomes StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path} ({error.strerror or error}); what was kept stays kept: make room "
            "or make the folder writable, then run the same command again"
        ) from error


def discard(path: str | Path):
    """Forget the copy at `path` and what has come of it."""
    with writing(path):
        for file in (Path(path), _record(path), _record(path).with_suffix(".tmp")):
            file.unlink(missing_ok=True)


class SparseCopy:
    """A file of the zip's size, and the [start, stop) ranges of it that have come."""

    def __init__(self, path, url):
        self.path, self.url = path, url
        self.total, self.validator, self.have, self.unrecorded = None, None, [], 0

    def __enter__(self):
        self._load()
        with writing(self.path):
            self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        return self

    def __exit__(self, *_):
        os.close(self.file)

    def _load(self):
        """Take up a record that fits its file; any other is as good as none."""
        try:
            record = json.loads(_record(self.path).read_bytes())
            spans = [(int(start), int(stop)) for start, stop in record["have"]]
            total, size = int(record["total"]), self.path.stat().st_size
            url, validator = record["url"], record["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        if url == self.url and size == total and all(0 <= a < b <= total for a, b in spans):
            self.total, self.validator, self.have = total, validator, merged(spans)

    def held(self):
        return sum(stop - start for start, stop in self.have)

    def begin(self, total, validator=None):
        """Start anew with a file of `total` bytes (None: not known yet)."""
        with writing(self.path):
            _record(self.path).unlink(missing_ok=True)
            os.ftruncate(self.file, 0)
            os.ftruncate(self.file, total or 0)
        self.total, self.validator, self.have, self.unrecorded = total, validator, [], 0

    def write(self, offset, data):
        with writing(self.path):
            rest = memoryview(data)
            while rest:
                rest = rest[os.pwrite(self.file, rest, offset + len(data) - len(rest)) :]
        self.have = merged([*self.have, (offset, offset + len(data))])
        self.unrecorded += len(data)
        if self.unrecorded >= CHECKPOINT:
            self.record()

    def record(self):
        """Say what is held: after it is on disk, so that the record never runs ahead."""
        if self.total is None or not self.unrecorded:
            return
        content = {"url": self.url, "total": self.total, "validator": self.validator}
        with writing(self.path):
            os.fsync(self.file)
            beside = _record(self.path).with_suffix(".tmp")
            beside.write_text(json.dumps({**content, "have": self.have}))
            os.replace(beside, _record(self.path))
        self.unrecorded = 0

    def missing(self, start, stop):
        """First part of [start, stop) that has not come; None where all has."""
        for a, b in self.have:
            if a <= start < b:
                start = b
            elif start < a < stop:
                stop = a
        return (start, stop) if start < stop else None


class HeldBytes(io.RawIOBase):
    """The copy as a file for `zipfile`, which then says itself what it still needs."""

    def __init__(self, copy):
        self.copy, self.position = copy, 0

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        self.position = offset + (0, self.position, self.copy.total)[whence]
        if self.position < 0:
            raise OSError("before the beginning")
        return self.position

    def tell(self):
        return self.position

    def read(self, n=-1):
        start, total = self.position, self.copy.total
        stop = total if n is None or n < 0 else min(total, start + n)
        if (missing := self.copy.missing(start, stop)) is not None:
            raise AbsentError(missing)
        self.position = stop
        return os.pread(self.copy.file, max(0, stop - start), start)


def merged(spans):
    """The same ranges, sorted, with those that touch made one."""
    found = []
    for start, stop in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def _record(path):
    return Path(f"{path}.json")
