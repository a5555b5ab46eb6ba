"""What every room writes: it appears when it is complete, and says itself whether it is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

SETTLED_NS = 2_000_000_000  # a file may change once more within one tick of its file system


@contextmanager
def appearing(path: str | Path) -> Iterator[Path]:
    """A path beside, to write a file or a folder to, which takes the name when all of it is there.

    After an error nothing is left, and what had the name before still has it. A folder does not
    replace one that has something in it: that is an OSError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        if beside.is_file():
            with beside.open("rb+") as file:  # its content before its name
                os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if error.errno and error.filename is None:  # a full disk's does not say which file
            told = f"{path} cannot be written ({error.strerror}); make room, or see to the disk"
            raise OSError(error.errno, told) from error
        raise
    finally:
        beside.unlink(missing_ok=True) if beside.is_file() else shutil.rmtree(beside, True)


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, name: str, content: dict) -> None:
    """Write JSON that describes a folder, with the checksums of all files there and its own."""
    files = sorted(file for file in folder.iterdir() if file.name != name)
    content = content | {
        "files": {f.name: {"bytes": f.stat().st_size, "sha256": sha256_of(f)} for f in files}
    }
    content["sha256"] = _digest(content)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / name).write_text(f"{text}\n", encoding="utf-8")


def read_sealed(
    folder: Path,
    name: str,
    version: int,
    anew: str,
    kinds: Mapping[str, type | tuple] = MappingProxyType({}),
    later: Collection[str] = (),
) -> dict:
    """The JSON that describes a folder, once every file of it is what was written.

    ``version`` is what ``format`` must be; ``anew``, what to do with a damaged folder, ends the
    error's line; ``kinds`` are the types of what must be there; of files in ``later``, which take
    long to read, the size alone is compared: whoever reads them calls `check_file`.
    Another format or damage is a ValueError that names the file.
    """
    path = folder / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (found := content["format"]) == version:
            same = content.pop("sha256") == _digest(content)
            files = {other: (of["bytes"], of["sha256"]) for other, of in content["files"].items()}
            odd = [k for k, kind in kinds.items() if not isinstance(content[k], kind)]
    except PermissionError as error:
        raise _unreadable(path, error) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error or type(error).__name__}); {anew}") from error
    if found != version:
        raise ValueError(f"{folder} has format {found!r:.20}; this library reads {version}: {anew}")
    if not same or odd:
        what = f"its {odd[0]} is of another type" if odd else "it is not what was saved"
        raise ValueError(f"{path} is damaged: {what}; {anew}")
    for other, (size, sha256) in files.items():
        check_file(folder / Path(other).name, size, None if other in later else sha256, anew)
    return content


def check_file(file: Path, size: int, sha256: str | None, anew: str) -> None:
    """Refuse a file of a sealed folder that is not what was written; without a hash by its size.

    A file that did not change since is read once a process.
    """
    try:
        same = file.is_file() and file.stat().st_size == size
        if same and sha256 is not None:
            state = file.stat()
            times = state.st_mtime_ns, state.st_ctime_ns
            has_settled = time.time_ns() - max(times) > SETTLED_NS
            hashed = _remembered if has_settled else _remembered.__wrapped__
            same = hashed(file, state.st_dev, state.st_ino, size, *times) == sha256
    except OSError as error:
        raise _unreadable(file, error) from error
    if not same:
        raise ValueError(f"{file} is damaged: it is not what was saved; {anew}")


@lru_cache(maxsize=256)
def _remembered(file, *state):
    return sha256_of(file)


def _unreadable(path, error) -> ValueError:
    return ValueError(f"{path} cannot be read ({error.strerror}); see to its permissions and disk")


def _digest(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
