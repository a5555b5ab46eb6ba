"""What an executed notebook was made with, as a line at its foot, and whether that still holds.

A notebook that was executed shows the hashes of the library, of its parameters, of the cohort and
of its own cells. `why_stale` compares them with what is there now: the book is not built from an
older one.
"""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import brainvae_core
from brainvae_core.prepare import prepare_cohort
from brainvae_core.profile import Parameters, read_parameters

PLACES = ("data", "runs", "device", "together")  # where and how, not what
LINE = re.compile(r"brainvae_core (\w+), parameters (\w+), cells (\w+), cohort (\w+)")


@dataclass(frozen=True)
class Stamp:
    """Twelve hexadecimal digits each."""

    library: str
    parameters: str
    cells: str
    cohort: str

    def __repr__(self):
        return (
            f"Made with brainvae_core {self.library}, parameters {self.parameters}, "
            f"cells {self.cells}, cohort {self.cohort}"
        )


def stamp(p: Parameters) -> Stamp:
    """The last value of a notebook: what it was made with, its cells as they were executed."""
    from IPython import get_ipython

    executed = get_ipython().user_ns["In"][1:]
    cohort = prepare_cohort(p).fingerprint[:12]
    return Stamp(library_hash(), parameters_hash(p), cells_hash(executed), cohort)


def stamp_of(notebook: dict) -> Stamp | None:
    """The stamp that a notebook's outputs hold, or None."""
    for cell in reversed(notebook["cells"]):
        for output in cell.get("outputs", []):
            if found := LINE.search("".join(output.get("data", {}).get("text/plain", ""))):
                return Stamp(*found.groups())
    return None


def why_stale(notebook: dict) -> str:
    """Why a notebook's outputs are not what its cells would give now; empty if they are.

    Parameters
    ----------
    notebook : dict
        The content of an ``.ipynb`` file. Whether the cohort is still the same cannot be told
        from it: compare the stamps of the notebooks that make one book.
    """
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if errors := [o for c in code for o in c["outputs"] if o["output_type"] == "error"]:
        return f"it ended with {errors[0]['ename']}: {errors[0]['evalue'].splitlines()[0]}"
    found = stamp_of(notebook)
    if found is None:
        return "it was never executed to its end: no stamp at its foot"
    sources = ["".join(cell["source"]) for cell in code]
    now = {
        "library": library_hash(),
        "parameters": parameters_hash(parameters_of(notebook)),
        "cells": cells_hash(sources),
    }
    changed = [name for name, value in now.items() if getattr(found, name) != value]
    return f"its {' and its '.join(changed)} changed since it was executed" if changed else ""


def parameters_of(notebook: dict) -> Parameters:
    """The parameters that a notebook states, those that papermill put in it included."""
    tagged = [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if {"parameters", "injected-parameters"} & set(cell["metadata"].get("tags", []))
    ]
    return read_parameters({k: v for source in tagged for k, v in _given(source).items()})


@cache
def library_hash() -> str:
    """Of all code of the library; of docstrings only those that caption figures."""
    root = Path(brainvae_core.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        tree = ast.parse(path.read_text())
        digest.update(f"{name.as_posix()} {_code(tree, name.parts[0] == 'figures')}\n".encode())
    return digest.hexdigest()[:12]


def parameters_hash(p: Parameters) -> str:
    """Of every parameter that says what is made; not of folders and devices."""
    told = {f.name: getattr(p, f.name) for f in fields(p) if f.name not in PLACES}
    return hashlib.sha256(repr(told).encode()).hexdigest()[:12]


def cells_hash(sources: list[str]) -> str:
    """Of the code of a notebook's cells; cells of parameters and comments do not count."""
    told = [_code(ast.parse(s), True) for s in sources if s.strip() and not _given(s)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


def _code(tree, with_docstrings):
    if not with_docstrings:
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_text(body[0]) and hasattr(node, "name"):
                body[0] = ast.Pass()
        if tree.body and _is_text(tree.body[0]):
            tree.body[0] = ast.Pass()
    return _written(tree)


def _written(node):
    """As `ast.dump`, without what is empty: how much of that there is depends on the Python."""
    if isinstance(node, list):
        told = [part for part in node if not (isinstance(part, ast.Constant) and part.value == "")]
        return f"[{', '.join(map(_written, told))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    told = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return f"{type(node).__name__}({', '.join(f'{k}={_written(v)}' for k, v in told)})"


def _is_text(node):
    value = getattr(node, "value", None)
    return isinstance(node, ast.Expr) and isinstance(getattr(value, "value", None), str)


def _given(source):
    """Names and values of a cell that only sets parameters; of any other, none."""
    known = Parameters.__dataclass_fields__
    found = {}
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if getattr(target, "id", None) not in known:
            return {}
        try:
            found[target.id] = ast.literal_eval(node.value)
        except ValueError:
            return {}
    return found
