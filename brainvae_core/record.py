"""Numbers that the book's ledger quotes: shown in the chapter that made them, read from there."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from brainvae_core.metrics import Estimate, verdict
from brainvae_core.stamp import parameters_of, stamp_of, why_stale

LONG = 30  # rows; a longer table is shown folded
MIME = "application/vnd.brainvae.numbers+json"
COLUMNS = {
    "number": "number",
    "found": "found [95 % interval]",
    "n": "n",
    "verdict": "verdict",
}


class Record:
    """Named numbers as a table, and as data in the executed notebook.

    Parameters
    ----------
    numbers : mapping of str to Estimate or number
    claims : mapping of str to mapping of str to Estimate
        Of each claim, by setting, numbers that are positive where it holds: they get its verdict.
    n_brains, n_seeds : int, optional
        What plain numbers were made from.
    of : mapping of str to str, optional
        What an estimate's n counts where it is no brains, by number or claim, such as "latents".
    """

    def __init__(
        self,
        numbers: Mapping[str, Estimate | float],
        claims: Mapping[str, Mapping[str, Estimate]] | None = None,
        n_brains: int | None = None,
        n_seeds: int | None = None,
        of: Mapping[str, str] | None = None,
    ):
        self.rows, of = [], of or {}
        for name, found in numbers.items():
            plain = not isinstance(found, Estimate)
            found = Estimate(found, None, None, n_brains, n_seeds) if plain else found
            self._add(name, found, of.get(name, "brains"))
        for claim, by_setting in (claims or {}).items():
            judged = verdict(by_setting.values())
            for setting, found in by_setting.items():
                name = f"{claim} ({setting})" if len(by_setting) > 1 else claim
                self._add(name, found, of.get(claim, "brains"), verdict=judged)

    def _add(self, name, estimate, of, **more):
        numbers = {k: _plain(v) for k, v in estimate._asdict().items()}
        counted = [(numbers["n_brains"], of), (numbers["n_seeds"], "fits")]
        n = ", ".join(f"{n} {what if n != 1 else what[:-1]}" for n, what in counted if n)
        self.rows.append({"number": name, "found": _shown(estimate), "n": n, **numbers, **more})

    def _table(self) -> pd.DataFrame:
        shown = [[_text(row.get(column)) for column in COLUMNS] for row in self.rows]
        table = pd.DataFrame(shown, columns=COLUMNS.values()).set_index("number")
        if all(row["low"] is None for row in self.rows):
            table = table.rename(columns={COLUMNS["found"]: "value"})
        return table.loc[:, (table != "").any()]

    def __repr__(self):
        return self._table().to_string()

    def _repr_mimebundle_(self, include=None, exclude=None):
        with pd.option_context("display.max_colwidth", None):
            table = self._table().to_html(index_names=False, border=0)
        if len(self.rows) > LONG:
            told = f"{len(self.rows)} numbers, for the ledger"
            table = f"<details><summary>{told}</summary>{table}</details>"
        return {"text/plain": repr(self), "text/html": table, MIME: {"numbers": self.rows}}


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


def made_on(notebook: dict) -> str:
    """What kind of brains an executed notebook was made on, in words."""
    p = parameters_of(notebook)
    if p.brains != "simulated":
        return "registered brains"
    return f"simulated, {'drawn' if p.atlas == 'drawn' else 'real'} atlas"


def main():
    """Keep what the executed chapters of a book recorded, for another book's ledger."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("notebooks", type=Path, help="folder of executed notebooks")
    parser.add_argument("target", type=Path, help="the file to write (JSON)")
    options = parser.parse_args()
    paths = sorted(options.notebooks.glob("[0-9]*.ipynb"))
    if not paths:
        raise SystemExit(f"error: {options.notebooks} holds no executed chapter; make book first")
    chapters = {path.stem: json.loads(path.read_text()) for path in paths}
    if stale := [name for name, notebook in chapters.items() if why_stale(notebook)]:
        raise SystemExit(f"error: stale chapters: {', '.join(stale)}; make book again")
    if len({stamp_of(notebook).cohort for notebook in chapters.values()}) > 1:
        raise SystemExit("error: the chapters were made with different cohorts; make book again")
    kept = {
        "made_on": made_on(chapters[paths[0].stem]),
        "cells": {name: stamp_of(notebook).cells for name, notebook in chapters.items()},
        "chapters": {name: record_of(notebook) for name, notebook in chapters.items()},
    }
    options.target.parent.mkdir(parents=True, exist_ok=True)
    partial = options.target.with_suffix(".partial")
    partial.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    partial.replace(options.target)
    print(f"{sum(map(len, kept['chapters'].values()))} numbers in {options.target}")


def _plain(value):
    """As JSON has it; what is not finite, such as an end of no interval, is None."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(value)


def _shown(estimate):
    value = _plain(estimate.value)
    if value is None:
        return "none"
    if None not in (_plain(estimate.low), _plain(estimate.high)):
        return str(estimate)
    shown = f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3g}"
    return shown.replace("-", "−")


def _text(value):
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
