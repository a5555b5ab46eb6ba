"""What every room writes: it appears when it is complete, and says itself whether it is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from brainvae_core import __version__


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
    finally:
        beside.unlink(missing_ok=True) if beside.is_file() else shutil.rmtree(beside, True)


@cache
def made_with() -> dict[str, str]:
    """Versions of what makes files; of a checkout the commit too, "+" where files have changed."""
    found = {"brainvae": __version__, "python": platform.python_version()}
    found |= {name: version(name) for name in ("numpy", "torch")}
    root = Path(__file__).parent.parent
    if (root / ".git").exists():  # else a folder of packages in another checkout would count
        asked = "git --no-optional-locks describe --always --abbrev=12 --exclude=* --dirty=+"
        told = {"cwd": root, "capture_output": True, "text": True, "timeout": 10}
        with suppress(OSError, subprocess.SubprocessError):
            found["commit"] = subprocess.run(asked.split(), check=True, **told).stdout.strip()
    return found


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
    folder: Path, name: str, version: int, anew: str, sized: Collection[str] = ()
) -> dict:
    """The JSON that describes a folder, once every file of it is what was written.

    ``version`` is what ``format`` must be; ``anew``, what to do with a damaged folder, ends the
    error's line; of files in ``sized``, which take long to read, the size alone is compared.
    Another format or damage is a ValueError that names the file.
    """
    path = folder / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found, given = content["format"], content.pop("sha256", None)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error or type(error).__name__}); {anew}") from error
    if found != version:
        raise ValueError(f"{folder} has format {found}; this library reads {version}: {anew}")
    if given != _digest(content):
        raise ValueError(f"{path} is damaged: it is not what was saved; {anew}")
    for other, about in content["files"].items():
        file = folder / other
        same = file.is_file() and file.stat().st_size == about["bytes"]
        if same and other not in sized:
            same = sha256_of(file) == about["sha256"]
        if not same:
            raise ValueError(f"{file} is damaged: it is not what was saved; {anew}")
    return content


def _digest(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
