"""Ways of damaging a file, each drawn by a generator: of bytes, of JSON, of tables, of YAML."""

import gzip
import io
import json
import os
import zipfile
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest

NOBODY = 65534

DEEP = "\ud7ff deep"  # stands for nesting that no parser follows
VALUES = (None, True, -1, 0, 2**70, 10**400, 1e308, -0.5, float("nan"), float("inf"), "", "\ud800")
VALUES += ("../../x", "x" * 5000, "\0", [], {}, [[]], {"a": None}, DEEP, "1970-01-01", 999, "8")
YAMLS = ("!!python/object/apply:os.system ['touch executed']", "&a [*a]", "[" * 3000, ".nan")
YAMLS += ("1e999", "1e999", ".inf", "-1", "0", "9" * 5000, '"\\0"', '"\\ud800"', "!!binary x")
YAMLS += ("!!int x", "{a: 1, a: 2}", "? [1]\n: 2", "\t", "'", "~", "[]", "{}", "yes", "1.5")
YAMLS += ("[1, [2]]", "!!set {a}")


class Payload:
    """What a pickle would run."""

    def __reduce__(self):
        return os.system, ("touch executed",)


# ---- of bytes ----


def truncated(rng, content):
    return content[: rng.integers(len(content))] if content else b""


def flipped(rng, content):
    content = bytearray(content or b"\0")
    for at in rng.integers(len(content), size=rng.integers(1, 4)):
        content[at] ^= 1 << int(rng.integers(8))
    return bytes(content)


def flipped_near_the_start(rng, content):
    """Where headers are."""
    return flipped(rng, content[:300]) + content[300:]


def zeroed(rng, content):
    start, n = rng.integers(len(content) + 1), int(rng.integers(1, 200))
    return content[:start] + bytes(len(content[start : start + n])) + content[start + n :]


def repeated(rng, content):
    start, n = rng.integers(len(content) + 1), int(rng.integers(1, 200))
    return content[: start + n] + content[start : start + n] + content[start + n :]


def removed(rng, content):
    start, n = rng.integers(len(content) + 1), int(rng.integers(1, 200))
    return content[:start] + content[start + n :]


def random(rng, content):
    return rng.bytes(rng.integers(1, 3000))


def empty(rng, content):
    return b""


def web_page(rng, content):
    return b"<!DOCTYPE html><html>503</html>"


def pickled(rng, content):
    file = io.BytesIO()
    (np.savez if content[:2] == b"PK" else np.save)(file, np.array([Payload()], dtype=object))
    return file.getvalue()


def climbing_zip(rng, content):
    """An archive whose parts have names that lead out of any folder."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("../executed", "/tmp/executed", "../../executed.npy"):
            archive.writestr(name, b"x")
    return file.getvalue()


# ---- of JSON, tables and YAML ----


def json_changed(rng, content):
    """One value of another type or out of range, or a key more or less, or of another version."""
    lines = content.decode().splitlines(keepends=True) or [""]
    whole = 0 if not content.startswith(b"{") or len(lines) == 1 or lines[0].strip() == "{" else 1
    at = int(rng.integers(len(lines))) if whole else 0
    try:
        tree = json.loads(lines[at] if whole else content)
    except ValueError:
        return truncated(rng, content)
    parents, todo = [], [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, dict | list) and node:
            parents.append(node)
            todo += node.values() if isinstance(node, dict) else node
    if not parents:
        return b"[[]]"
    node = parents[rng.integers(len(parents))]
    key = list(node)[rng.integers(len(node))] if isinstance(node, dict) else rng.integers(len(node))
    how = rng.integers(5)
    if how == 0:
        del node[key]
    elif how == 1 and isinstance(node, dict):
        node["more"] = node[key]
    elif how == 2 and isinstance(tree, dict) and "format" in tree:
        tree["format"] = [99, "5", None, 5.5][rng.integers(4)]
    else:
        node[key] = VALUES[rng.integers(len(VALUES))]
    text = json.dumps(tree).replace(json.dumps(DEEP), "[" * 5000 + "]" * 5000)
    return (
        text.encode()
        if not whole
        else "".join([*lines[:at], text + "\n", *lines[at + 1 :]]).encode()
    )


def rows_changed(rng, content):
    """Rows of a table dropped, doubled or moved, columns exchanged, a cell of another kind."""
    rows = [line.split(",") for line in content.decode("latin-1").splitlines()]
    how, at = rng.integers(5), int(rng.integers(len(rows)))
    one, other = rng.integers(len(rows[0]), size=2)
    if how == 0:
        del rows[at]
    elif how == 1:
        rows.insert(at, rows[at])
    elif how == 2:
        rows[at], rows[-1] = rows[-1], rows[at]
    elif how == 3:
        for row in rows:
            if max(one, other) < len(row):
                row[one], row[other] = row[other], row[one]
    elif one < len(rows[at]):
        rows[at][one] = str(VALUES[rng.integers(len(VALUES))]).encode("utf-8", "replace").decode()
    return "\n".join(map(",".join, rows)).encode("utf-8")


def yaml_changed(rng, content):
    """A value in the place of another, or a line more, less or moved in."""
    lines, value = content.decode().splitlines(), YAMLS[rng.integers(len(YAMLS))]
    at, how = int(rng.integers(len(lines))), rng.integers(5)
    if how <= 2:
        lines[at] = f"{lines[at].partition(':')[0]}: {value}"
    elif how == 3:
        del lines[at]
    else:
        lines.insert(at, f"  {value}")
    return "\n".join(lines).encode()


def gzipped_text_changed(rng, content):
    """What a table of scores says, packed again."""
    head, _, rows = gzip.decompress(content).partition(b"\n")
    change = json_changed(rng, head) if rng.integers(2) else head
    return gzip.compress(change + b"\n" + (rows if change != head else rows_changed(rng, rows)))


OF_BYTES = (truncated, flipped, flipped_near_the_start, zeroed, repeated, removed, random, empty)
OF_BYTES += (web_page, climbing_zip, pickled)
OF_TEXT = {".json": json_changed, ".jsonl": json_changed, ".ipynb": json_changed}
OF_TEXT |= {".csv": rows_changed, ".yaml": yaml_changed, ".csv.gz": gzipped_text_changed}
IN_PLACE = ("a folder", "a dangling link", "nothing", "unreadable", "another file")


@contextmanager
def as_nobody(wanted=True):
    """As a user whom permissions bind, where root is at work."""
    if wanted and not nobody_reaches_the_project():
        pytest.skip("user 65534 cannot reach this checkout or its packages")
    with _as(NOBODY if wanted and os.geteuid() == 0 else os.geteuid()):
        yield


@contextmanager
def _as(user):
    before = os.geteuid()
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(before)


@cache
def nobody_reaches_the_project():
    """Whether `as_nobody` can import and read; it can where it changes nothing."""
    if os.geteuid() != 0:
        return True
    with _as(NOBODY):
        return all(os.access(f, os.R_OK, effective_ids=True) for f in (__file__, np.__file__))
