"""What every room writes: it appears when it is complete, and says itself whether it is damaged."""

from __future__ import annotations

import fcntl
import functools
import glob
import hashlib
import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import IO

from brainvae_core import __version__

SETTLED_NS = 2_000_000_000  # a file may change once more within one tick of its file system
ABANDONED = 24 * 3600  # seconds without a change, after which another machine's file is left over
NUMBERS, AT_WORK = itertools.count(), set()  # of the hidden paths of this process


@contextmanager
def atomically(path: str | Path) -> Iterator[Path]:
    """A path beside, to write a file or a folder to, which takes the name when all of it is there.

    After an error nothing is left, and what had the name before still has it. A folder does not
    replace one that has something in it: that is an OSError.
    """
    with scratch_path(path) as own:
        yield own
        if own.is_file():
            with own.open("rb+") as file:  # its content before its name
                os.fsync(file.fileno())
        os.replace(own, path)


def write(path: str | Path, content: bytes) -> None:
    """All of a file or nothing of it."""
    with atomically(path) as own:
        own.write_bytes(content)


@contextmanager
def scratch_path(path: str | Path) -> Iterator[Path]:
    """A hidden path beside a name, of this call alone, which is gone in the end.

    What a process that was killed left beside the same name is removed; another machine's, once
    nothing in it has changed for a day.
    """
    path, number = Path(path), str(next(NUMBERS))
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f".{path.name}~{platform.node()}~{os.getpid()}~{number}")
    _sweep(path)
    AT_WORK.add(number)
    try:
        yield own
    except OSError as error:
        if error.errno and error.filename in (None, str(own)):  # a full disk's says no file
            message = f"{path} cannot be written ({error.strerror}); make room, or see to the disk"
            raise OSError(error.errno, message) from error
        raise
    finally:
        _remove(own)
        AT_WORK.discard(number)


def _sweep(path):
    """Remove what ended processes left beside exactly this name."""
    for left in path.parent.glob(f".{glob.escape(path.name)}~*~*~*"):
        name, machine, process, number = left.name.rsplit("~", 3)
        if name != f".{path.name}" or not process.isdecimal():
            continue
        with suppress(OSError, OverflowError):  # it went meanwhile, or is somebody else's
            here = machine == platform.node()
            if not (_runs(int(process), number) if here else _may_be_at_work(left)):
                _remove(left)


def _may_be_at_work(left):
    """Whether another machine may still write: where locks are none, it always may."""
    if not CHECKED.get(left.lstat().st_dev, True):
        return True
    changed = max(file.lstat().st_ctime for file in (left, *left.rglob("*")))
    return time.time() - changed < ABANDONED


def _runs(process, number):
    if process == os.getpid():  # else it is of a process of old that had this one's number
        return number in AT_WORK
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _remove(path):
    shutil.rmtree(path, True) if path.is_dir() else path.unlink(missing_ok=True)


# ---- one process at a time ----

CHECKED: dict[int, bool] = {}  # whether locks of a file system exclude others


@contextmanager
def file_lock(path: Path, message: str = "") -> Iterator[IO | None]:
    """One process at a time makes what has this name; yields its lock once it is this one's turn.

    While another makes it, ``message`` is printed and its end waited for; without it that is
    None. The lock, a hidden file beside, ends with its process. What was left beside by those that
    were killed is removed.
    """
    lock, how = _lock(path), fcntl.LOCK_EX | fcntl.LOCK_NB
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with lock.open("w") as file:
            if not _try_lock(file, how):
                if not message:
                    yield None
                    return
                if how & fcntl.LOCK_NB:
                    print(message, file=sys.stderr)
                how = fcntl.LOCK_EX
                _try_lock(file, how)
            # Whoever had it took it away: another may have one of the same name by now.
            if not _is(file, lock):
                continue
            _check_locks(lock)
            _sweep(path)
            try:
                yield file
            finally:
                lock.unlink(missing_ok=True)
            return


def whole(path: Path) -> bool:
    """Whether a name is there, and whoever made it neither at work still nor killed at the end."""
    return path.exists() and not os.access(_lock(path), os.W_OK)


def _lock(path):
    return path.with_name(f".{path.name}.lock")


def _is(file, path):
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _try_lock(file, how):
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError:  # there are no locks here, which `_check_locks` says
        pass
    return True


def _check_locks(lock):
    """Say of a file system, once, that a second handle gets a lock that the first one has."""
    with lock.open("w") as second:
        device = os.fstat(second.fileno()).st_dev
        if device in CHECKED:
            return
        CHECKED[device] = not _try_lock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not CHECKED[device]:
        print(
            f"warning: locks on the file system of {lock.parent} exclude nobody: start no two "
            "commands there at once",
            file=sys.stderr,
        )


# ---- Ctrl-C ----


def stoppable(message: str):
    """Of a command: Ctrl-C, and SIGTERM as a cluster sends it, end it in one line, with code 130.

    What it was about to write is taken away first; whoever asks twice does not wait for that.
    """

    def at_once(*_):
        os.write(2, f"{message}\n".encode())
        os._exit(130)

    def interrupt(*_):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, at_once)
        raise KeyboardInterrupt

    def decorated(main):
        @functools.wraps(main)
        def command(*arguments):
            before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:  # as a shell's background jobs have Ctrl-C
                    signal.signal(number, interrupt)
            try:
                return main(*arguments)
            except BaseException as error:
                # Where a class was just being made, as in an import, it is a RuntimeError's cause.
                if not any(isinstance(e, KeyboardInterrupt) for e in (error, error.__cause__)):
                    raise
                for number in before:
                    signal.signal(number, signal.SIG_IGN)
                print(message, file=sys.stderr)
                raise SystemExit(130) from None
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        return command

    return decorated


# ---- checksums ----


@cache
def made_with() -> dict[str, str]:
    """Versions of what makes files; of a checkout the commit too, "+" where files have changed."""
    found = {"brainvae": __version__, "python": platform.python_version()}
    found |= {name: version(name) for name in ("numpy", "torch")}
    root = Path(__file__).parent.parent
    if (root / ".git").exists():  # else a folder of packages in another checkout would count
        command = "git --no-optional-locks describe --always --abbrev=12 --exclude=* --dirty=+"
        options = {"cwd": root, "capture_output": True, "text": True, "timeout": 10}
        with suppress(OSError, subprocess.SubprocessError):
            found["commit"] = subprocess.run(command.split(), check=True, **options).stdout.strip()
    return found


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(content: dict | list) -> str:
    """Hexadecimal digest of what can be JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def unsealed(text: str | bytes, key: str = "sha256") -> dict:
    """What JSON says beside its own checksum; ValueError where that is another."""
    content = dict(json.loads(text))
    if content.pop(key, None) != digest_of(content):
        raise ValueError("it is not what was written")
    return content


def seal(folder: Path, name: str, content: dict) -> None:
    """Write JSON that describes a folder, with the checksums of all files there and its own."""
    files = sorted(file for file in folder.iterdir() if file.name != name)
    content = content | {
        "files": {f.name: {"bytes": f.stat().st_size, "sha256": sha256_of(f)} for f in files}
    }
    content["sha256"] = digest_of(content)
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
            same = content.pop("sha256") == digest_of(content)
            files = {other: (of["bytes"], of["sha256"]) for other, of in content["files"].items()}
            odd = [k for k, kind in kinds.items() if not isinstance(content[k], kind)]
    except PermissionError as error:
        raise _unreadable(path, error) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error or type(error).__name__}); {anew}") from error
    if found != version:
        raise ValueError(f"{path} has format {found!r:.20}; this library reads {version}: {anew}")
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


def first_line(error: Exception) -> str:
    """The first line of an error; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0]


def _unreadable(path, error) -> ValueError:
    return ValueError(f"{path} cannot be read ({error.strerror}); see to its permissions and disk")
