"""Files as they are behind links, known by their content."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from traceback import walk_tb

from brainvae_core.disk import SETTLED_NS, digest_of, first_line, sha256_of, write

STARTS = {  # the first bytes of every format
    ".npy": (b"\x93NUMPY",),
    ".npz": (b"PK\3\4",),
    ".tif": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ".nii": (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c"),
    ".nii.gz": (b"\x1f\x8b",),
    ".nrrd": (b"NRRD",),
}
STARTS[".tiff"] = STARTS[".tif"]
POINTERS = {  # what stands in place of a file that was not fetched
    b"version https://git-lfs": "git lfs pull",
    b"/annex/objects/": "git annex get (or datalad get)",
}


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


def describe_damage(path: Path, error: Exception) -> str:
    """What is wrong with a file that raised this, in one line: by its beginning if that tells."""
    if isinstance(error, OSError) and error.strerror:  # the system's, such as no permission
        return error.strerror
    with path.open("rb") as file:
        begins = file.read(200)
    text = begins.lstrip().lower()
    if not text or text.startswith(b"<"):
        return f"it is {'a web page' if text else 'empty'}; fetch it again"
    if why := not_fetched(path):
        return f"it is {why}"
    found = [end for end in STARTS if path.name.lower().endswith(end)]
    if found and not begins.startswith(STARTS[found[-1]]):
        return f"it is no {found[-1]} file: it begins with {begins[:8]!r}"
    return error_line(error)


def error_line(error: Exception) -> str:
    """The first line of an error; of a library's with what it means for the file that was read."""
    line = f"no {error}" if isinstance(error, KeyError) else first_line(error)
    *_, (frame, _) = walk_tb(error.__traceback__)
    if isinstance(error, ValueError) and frame.f_globals["__name__"].startswith(__package__):
        return line
    return f"it is damaged, cut off or of a kind that is not read ({line}); fetch it again"


def content_hashes(files: Iterable[Path], known: str | Path) -> list[str]:
    """SHA-256 of each file's content, or why it cannot be read.

    A file that has the place, size and times that it had when it was hashed before is not read
    again; `known` is a JSON file with what was hashed, which is written where it can be.
    """
    known = Path(known)
    try:
        kept = json.loads(known.read_bytes())
        before = kept["files"] if kept["sha256"] == digest_of(kept["files"]) else {}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        before = {}
    hashes, after = [], dict(before)
    for file in files:
        try:
            place, stat = os.path.realpath(file), file.stat()
            times = stat.st_mtime_ns, stat.st_ctime_ns
            state = [stat.st_dev, stat.st_ino, stat.st_size, *times]
            *same, sha256 = before.get(place) or [None]
            if same != state:
                sha256 = sha256_of(file)
        except OSError as error:  # whoever reads it says so
            hashes.append(str(error.strerror))
            continue
        if same != state:
            after.pop(place, None)
            if time.time_ns() - max(times) > SETTLED_NS:
                after[place] = [*state, sha256]
        hashes.append(sha256)
    if after != before:
        with suppress(OSError):  # it only saves time
            write(known, json.dumps({"sha256": digest_of(after), "files": after}).encode())
    return hashes
