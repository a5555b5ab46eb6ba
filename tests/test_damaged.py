"""Every kind of file that is read, damaged in every way: the same result, or one clear line.

A case is a number: ``damage_case(kind, number)`` makes it again. ``make nightly`` runs 12,000.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import pickle
import shutil
import socket
import sys
import tempfile
from collections import Counter
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from damage_kinds import KINDS, example
from damages import IN_PLACE, OF_BYTES, OF_TEXT, as_nobody, json_changed, nobody_reaches_the_project

from brainvae_core.disk import seal

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
OF_VALUES = ("flipped", "flipped_near_the_start", "zeroed")  # of a pixel of somebody else's file
# Of events that change files the arguments that are paths.
WRITES = {f"os.{name}": (0,) for name in ("mkdir", "rmdir", "remove", "chmod", "chown")}
WRITES |= {"os.rename": (0, 1), "os.symlink": (1,), "os.link": (1,), "shutil.rmtree": (0,)}
RUNS = ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "shutil.unpack_archive")
RUNS += ("os.posix_spawn", "os.fork", "socket.connect", "ctypes.dlopen")


# ---- a case ----


def digest_of(found) -> str:
    """The same of two results that are the same."""
    if isinstance(found, np.ndarray):
        return hashlib.sha256(f"{found.shape}{found.dtype}".encode() + found.tobytes()).hexdigest()
    if isinstance(found, pd.DataFrame):
        return f"{found.dtypes.tolist()}{found.to_csv()}"
    if hasattr(found, "tensors"):
        return digest_of(found.tensors())
    if is_dataclass(found):
        return digest_of([getattr(found, field.name) for field in fields(found)])
    if hasattr(found, "atlas"):
        return digest_of([found.metadata, found.factors, found.atlas, repr(found)])
    if isinstance(found, dict):
        return repr(sorted((repr(name), digest_of(value)) for name, value in found.items()))
    if isinstance(found, list | tuple):
        return repr([digest_of(value) for value in found])
    return "" if isinstance(found, Path) else repr(found)


@contextlib.contextmanager
def nothing_runs(place):
    """What reading must not do: unpickle, start a program, write outside a folder of the case."""
    SEEN.clear()
    (scratch := Path(place, "scratch")).mkdir(exist_ok=True)
    scratch.chmod(0o777)
    with patch.object(tempfile, "tempdir", str(scratch)), patch("sys.dont_write_bytecode", True):
        SEEN.inside = os.path.realpath(place)
        try:
            yield
        finally:
            SEEN.inside = None
            assert not list(SEEN), list(SEEN)


class Seen(list):
    inside = None

    def __call__(self, event, arguments):
        if not self.inside:
            return
        paths = [arguments[i] for i in WRITES.get(event, ())]
        if event == "open":
            paths = [os.path.realpath(p) for p in arguments[:1] if (arguments[2] or 0) & 3]
        elif arguments and arguments[-1] not in (-1, None):  # below what rmtree was seen to remove
            paths = []
        runs = event in RUNS and arguments != (None,)  # a library of that name is this process
        if runs or not all(map(self.is_inside, paths)):
            self.append((event, arguments))

    def is_inside(self, path):
        if isinstance(path, int):
            return True
        folder, name = os.path.split(os.fsdecode(path))
        return Path(os.path.realpath(folder), name).is_relative_to(self.inside)


SEEN = Seen()
sys.addaudithook(SEEN)


def damaged(folder, rng):
    """Damage one file of a folder; what was done, and the file."""
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    file = files[rng.integers(len(files))]
    how = [*OF_BYTES, *IN_PLACE][rng.integers(len(OF_BYTES) + len(IN_PLACE))]
    if rng.integers(3) == 0:
        how = OF_TEXT.get("".join(file.suffixes), how)
    if not isinstance(how, str):
        content = file.read_bytes()
        file.write_bytes(how(rng, content))
        described = {"config.json": "run", "cohort.json": "cohort"}.get(file.name)
        if how is json_changed and described and "own" not in file.parts[-2] and rng.integers(2):
            with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
                about = json.loads(file.read_text())
                seal(file.parent, file.name, {k: v for k, v in about.items() if k != "sha256"})
                return "sealed anew", file
        return how.__name__, file
    others = [other for other in files if other != file] or [example("profile") / "own.yaml"]
    other = others[rng.integers(len(others))].read_bytes()
    if how == "unreadable":
        file.chmod(0)
        return how, file
    file.unlink()
    if how == "a folder":
        file.mkdir()
    elif how == "a dangling link":
        file.symlink_to("no/such/file")
    elif how == "another file":
        file.write_bytes(other)
    return how, file


def is_named(kind, file, shown):
    """Whether a line names the file, or of settings the name or the value that was given."""
    if kind == "lab" and f"/{file.stem}: no readable section" in shown:  # a brain has its file's
        return True
    if "atlas" in kind and f"no {file.name[:16].replace('_', ' ')} in" in shown:  # in several forms
        return True
    if file.name in shown or (kind == "MetaImage" and "a.mhd" in shown):  # one of two
        return True
    if kind != "settings":
        return False
    text = file.read_text(encoding="utf-8", errors="replace")
    parts = [part.strip() for line in text.splitlines() for part in line.split(":", 1)]
    rest = shown.partition(":")[2]
    return any(form[:20] in rest for part in parts if part for form in (part, repr(part)[1:-1]))


def damage_case(kind, number) -> tuple[str, str]:
    """What became of one case, and how it was made, in words."""
    _, read, is_open = KINDS[kind]
    rng = np.random.default_rng([number, *kind.encode()])
    with tempfile.TemporaryDirectory(prefix="damaged-") as place:
        os.chmod(place, 0o755)
        folder = Path(shutil.copytree(example(kind), Path(place, "damaged-folder"), symlinks=True))
        how, file = damaged(folder, rng)
        if how == "unreadable" and not nobody_reaches_the_project():
            return "left out", how
        try:
            with nothing_runs(place), as_nobody(how == "unreadable"):
                found = digest_of(read(folder))
        except (ValueError, OSError) as error:
            text = str(error)
            is_clear = "\n" not in text and is_named(kind, file, text)
            is_clear &= not isinstance(error, UnicodeError | json.JSONDecodeError)
            outcome = "clear" if is_clear else f"unclear: {type(error).__name__}: {text:.300}"
        except Exception as error:
            outcome = f"traceback: {type(error).__name__}: {error!s:.300}"
        else:
            outcome = "right" if found == unharmed(kind) else "wrong"
            is_gone = how in ("nothing", "a dangling link")
            if kind == "unfinished fit" and found == "None" and is_gone:
                outcome = "right"  # nothing was begun
            may_differ = file.suffix in OF_TEXT or how in OF_VALUES
            may_differ &= how != "empty" or kind == "settings"  # where none are given
            may_differ |= kind == "lab" and how in ("another file", "nothing")
            # A run, or a table of scores, that says of itself that it is another.
            is_another = how in ("sealed anew", "gzipped_text_changed")
            if outcome == "wrong" and (is_open and may_differ or is_another):
                outcome = "another valid file"
        if how == "unreadable":
            file.chmod(0o644)
        return outcome, f"{file.relative_to(folder)} {how}"


@cache
def unharmed(kind):
    return digest_of(KINDS[kind][1](example(kind)))


# ---- the promise ----


@pytest.mark.promise("Damaged files end in the right result or in one line that names the file.")
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_gives_the_right_result_or_one_clear_line(kind, record_property):
    n = 430 if NIGHTLY else 20
    found, bad = Counter(), []
    unharmed(kind)
    for number in range(n):
        outcome, how = damage_case(kind, number)
        found[outcome.partition(":")[0]] += 1
        if outcome not in ("right", "clear", "another valid file", "left out"):
            bad.append(f"{kind} {number}: {how}: {outcome}")
    record_property("cases", n)
    record_property("outcomes", json.dumps(found))
    assert not bad, "\n".join(bad)


def test_what_reading_must_not_do_is_seen(tmp_path):
    (inside := tmp_path / "inside").mkdir()
    (file := tmp_path / "file").touch()
    other, link = tmp_path / "other", inside / "link"
    link.symlink_to(other)
    forbidden = {
        "open": lambda: link.write_text("through a link"),
        "os.mkdir": (tmp_path / "folder").mkdir,
        "os.rename": lambda: file.rename(inside / "taken"),
        "os.symlink": lambda: (tmp_path / "led").symlink_to(inside),
        "os.remove": other.unlink,
        "shutil.rmtree": lambda: shutil.rmtree(tmp_path / "folder"),
        "pickle.find_class": lambda: pickle.loads(pickle.dumps(Path)),
        "os.system": lambda: os.system("true"),
        "os.posix_spawn": lambda: os.posix_spawn("/no/program", ["none"], {}),
        "os.fork": lambda: os.fork() or os._exit(0),
        "socket.connect": lambda: socket.create_connection(("127.0.0.1", 9), 1),
        "ctypes.dlopen": lambda: ctypes.CDLL("no.so"),
    }
    for event, deed in forbidden.items():
        for end in ((), [ValueError("refused")]):  # whatever the reading itself ends in
            with pytest.raises(AssertionError, match=event), nothing_runs(inside):
                with contextlib.suppress(OSError):
                    deed()
                for error in end:
                    raise error
