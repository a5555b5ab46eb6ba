"""What executed notebooks hold for the book: the numbers they recorded, and if they are fresh."""

from __future__ import annotations

import ast
import json
import re

import nbformat

from brainvae_core.disk import first_line
from brainvae_core.record import GLUE, MIME, STAMP, cells_hash, describe_settings
from brainvae_core.settings import Settings, read_settings

TEXT = f"{GLUE}text/plain"


def read_notebook(path) -> dict:
    """An executed notebook whose outputs can be read; anything else is a ValueError in one line."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        nbformat.validate(notebook)
        stamp = stamp_of(notebook) or {"settings": {}, "cells": "", "cohort": "", "runs": {}}
        kinds = {"settings": dict, "cells": str, "cohort": str, "runs": dict}
        if odd := [name for name, kind in kinds.items() if not isinstance(stamp[name], kind)]:
            raise ValueError(f"its stamp has another {odd[0]}")
        texts = [row["found"] for row in record_of(notebook).values()]
        if not all(isinstance(text, str) for text in (*texts, *quoted_of(notebook).values())):
            raise ValueError("what it recorded is no text")
    except Exception as error:  # of JSON, nbformat, or of what is not there
        why = first_line(error)
        raise ValueError(f"{path} is no executed notebook ({why:.200}); execute it anew") from error
    return notebook


def stamp_of(notebook: dict) -> dict | None:
    """What a notebook's last output says it was made with, or None."""
    for cell in reversed(notebook["cells"]):
        for output in cell.get("outputs", []):
            if found := output.get("metadata", {}).get(STAMP):
                return found
    return None


def why_stale(notebook: dict) -> str:
    """Why a notebook's outputs are not what its cells and settings ask for; empty if they are."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if errors := [o for c in code for o in c["outputs"] if o["output_type"] == "error"]:
        return f"it ended with {errors[0]['ename']}: {errors[0]['evalue'].splitlines()[0]}"
    found = stamp_of(notebook)
    if found is None:
        return "it was never executed to its end: no stamp at its foot"
    try:
        settings, default = (describe_settings(s) for s in (settings_of(notebook), Settings()))
    except (ValueError, OSError) as error:
        return str(error)
    # A setting that is new and at its default, or that is no more, changed nothing.
    before = {k: v for k, v in found["settings"].items() if k in settings}
    after = {k: v for k, v in settings.items() if k in before or v != default[k]}
    cells = cells_hash(["".join(cell["source"]) for cell in code])
    pairs = {"settings": (before, after), "cells": (found["cells"], cells)}
    changed = [name for name, (then, now) in pairs.items() if then != now]
    return f"its {' and its '.join(changed)} changed since it was executed" if changed else ""


def settings_of(notebook: dict):
    """The settings that a notebook states, those that papermill put in it included."""
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    about = re.search(r'read_settings\(globals\(\), about="(\w+)"\)', "\n".join(sources))
    given = {}
    for cell in notebook["cells"]:
        if {"parameters", "injected-parameters"} & set(cell["metadata"].get("tags", [])):
            for node in ast.parse("".join(cell["source"])).body:
                given[node.targets[0].id] = ast.literal_eval(node.value)
    return read_settings(given, about[1] if about else "model", show=False)


def disagreement(chapters: dict[str, dict]) -> str:
    """What makes chapters no one book: another cohort, or other weights of one run; else empty."""
    stamps = {name: found for name, notebook in chapters.items() if (found := stamp_of(notebook))}
    cohorts = {name: stamp["cohort"] for name, stamp in stamps.items()}
    if len(set(cohorts.values())) > 1:
        return f"chapters of one book were made with different cohorts: {cohorts}"
    read = {}
    for name, stamp in stamps.items():
        for run, digest in stamp["runs"].items():
            first, weights = read.setdefault(run, (name, digest))
            if weights != digest:
                return f"chapters {first} and {name} read run {run} with different weights"
    return ""


def record_of(notebook: dict) -> dict[str, dict]:
    """Every number that an executed notebook recorded, by name, with the position of its cell.

    Raises
    ------
    ValueError
        Two numbers of one name.
    """
    found = {}
    for position, cell in enumerate(notebook["cells"]):
        for output in cell.get("outputs", []):
            for row in output.get("data", {}).get(MIME, {}).get("numbers", []):
                if row["number"] in found:
                    raise ValueError(f"two numbers are called {row['number']!r}")
                found[row["number"]] = {**row, "cell": position}
    return found


def quoted_of(notebook: dict) -> dict[str, str]:
    """The numbers and words that an executed notebook gives to sentences, by their names."""
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    return {
        o["metadata"]["scrapbook"]["name"]: ast.literal_eval("".join(o["data"][TEXT]))
        for o in outputs
        if "scrapbook" in o.get("metadata", {})
    }


def made_on(notebook: dict) -> str:
    """What kind of brains an executed notebook was made on, in words."""
    settings = stamp_of(notebook)["settings"]
    if settings["cohort.brains"] != "simulated":
        return "registered brains"
    return f"simulated, {'drawn' if settings['cohort.atlas'] == 'drawn' else 'real'} atlas"
