"""What a chapter says of itself: the numbers that the verdicts quote, and what it was made with."""

from __future__ import annotations

import ast
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping
from types import MappingProxyType

import pandas as pd

from brainvae_core.disk import made_with
from brainvae_core.metrics import Estimate, verdict
from brainvae_core.models.runs import LOADED, PRECISION
from brainvae_core.prepare import prepare_cohort
from brainvae_core.settings import Settings

LONG = 30  # rows; a longer table is shown folded
MIME = "application/vnd.brainvae.numbers+json"
GLUE = "application/papermill.record/"  # where myst_nb.glue looks
STAMP = "brainvae"  # of an output's metadata
COLUMNS = {c: c for c in ("number", "found", "margin", "n", "verdict")} | {
    "found": "found [95 % interval]"
}


class Record:
    """Named numbers as a table, and as data in the executed notebook.

    Parameters
    ----------
    numbers, claims
        Of each claim, by setting, are given numbers that are positive where it holds: they get its
        verdict.
    margins
        Of claims, the least effect that would matter, in the unit of their numbers.
    n_brains, n_seeds
        What plain numbers were made from.
    of
        What an estimate's n counts where it is no brains, by number or claim, such as "latents".
    """

    def __init__(
        self,
        numbers: Mapping[str, Estimate | float],
        claims: Mapping[str, Mapping[str, Estimate]] = MappingProxyType({}),
        margins: Mapping[str, float] = MappingProxyType({}),
        n_brains: int | None = None,
        n_seeds: int | None = None,
        of: Mapping[str, str] = MappingProxyType({}),
    ):
        self.rows = []
        for name, found in numbers.items():
            plain = not isinstance(found, Estimate)
            found = Estimate(found, None, None, n_brains, n_seeds) if plain else found
            self._add(name, found, of.get(name, "brains"))
        for claim, by_setting in claims.items():
            margin = margins.get(claim, 0.0)
            decided = {"verdict": verdict(by_setting.values(), margin)}
            decided |= {"margin": f"± {margin:g}"} if margin else {}
            for setting, found in by_setting.items():
                name = f"{claim} ({setting})" if len(by_setting) > 1 else claim
                self._add(name, found, of.get(claim, "brains"), **decided)

    def _add(self, name, estimate, of, **more):
        numbers = {k: _plain(v) for k, v in estimate._asdict().items()}
        counted = [(numbers["n_brains"], of), (numbers["n_seeds"], "fits")]
        n = ", ".join(f"{n} {what if n != 1 else what[:-1]}" for n, what in counted if n)
        self.rows.append({"number": name, "found": _shown(estimate), "n": n, **numbers, **more})

    def _table(self) -> pd.DataFrame:
        shown = [[row.get(column, "") for column in COLUMNS] for row in self.rows]
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
            summary = f"{len(self.rows)} numbers, for the verdicts"
            table = f"<details><summary>{summary}</summary>{table}</details>"
        return {"text/plain": repr(self), "text/html": table, MIME: {"numbers": self.rows}}


def quoted(**values: Estimate | float | str) -> None:
    """Numbers and words that sentences of a chapter take from its run, as ``{glue:text}`name```."""
    from IPython.display import display

    for name, found in values.items():
        if not isinstance(found, str | Estimate):
            found = Estimate(found, None, None, None, None)
        text = found if isinstance(found, str) else _shown(found)
        text = re.sub(r"(?<![\w-])-(?=\d)", "−", text)
        display(
            {f"{GLUE}text/plain": repr(text)},
            raw=True,
            metadata={"scrapbook": {"name": name, "mime_prefix": GLUE}},
        )


class Tables(dict):
    """Tables by their titles, shown one below the other; those that are None or empty are not."""

    def _nonempty(self):
        return [(title, of) for title, of in self.items() if of is not None and len(of)]

    def __repr__(self):
        return "\n\n".join(f"{title}\n{table.to_string()}" for title, table in self._nonempty())

    def _repr_html_(self):
        parts = (f"<p>{html.escape(k)}</p>{t.to_html(border=0)}" for k, t in self._nonempty())
        return "".join(parts)


class Stamp:
    """A notebook's last value: the profile it was made with, in words and as its output's metadata.

    What a chapter depends on are its settings, its cells, and the models and tables it read.
    """

    def __init__(self, p: Settings, cells: list[str], cohort: str, runs: Mapping[str, str]):
        self.content = {
            "settings": describe_settings(p),
            "cells": cells_hash(cells),
            "cohort": cohort[:12],
            "runs": {name: digest[:12] for name, digest in sorted(runs.items())},
            "precision": {name: PRECISION[name] for name in sorted(runs) if name in PRECISION},
            "made": made_with(),
        }

    def __repr__(self):
        profile, cohort = self.content["settings"]["profile"], self.content["cohort"]
        tables = sum(name.startswith("table ") for name in self.content["runs"])
        read = f"{len(self.content['runs']) - tables} fitted models and {tables} tables"
        return f"Made with profile {profile} on cohort {cohort}; read: {read}"

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": repr(self)}, {STAMP: self.content}


def stamp(p: Settings) -> Stamp:
    """What the notebook that calls it was made with, its cells as they were executed."""
    from IPython import get_ipython

    executed = get_ipython().user_ns["In"][1:]
    return Stamp(p, executed, prepare_cohort(p).identity, LOADED)


def describe_settings(p: Settings) -> dict:
    """Every setting that says what is made, and not where, as JSON has it."""
    settings = {n: v for n, v in p.flat().items() if not n.startswith("places.")}
    return json.loads(json.dumps({"profile": p.profile, **settings}))


def cells_hash(sources: list[str]) -> str:
    """Of the code of a notebook's cells from where it reads its settings; comments do not count."""
    trees = [ast.parse(source) for source in sources]
    first = next((i for i, s in enumerate(sources) if "read_settings(" in s), 0)
    code = "\n".join(_written(tree) for tree in trees[first:] if tree.body)
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def _written(node):
    """As `ast.dump`, without what is empty: how much of that there is depends on the Python."""
    if isinstance(node, list):
        parts = [part for part in node if not (isinstance(part, ast.Constant) and part.value == "")]
        return f"[{', '.join(map(_written, parts))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return f"{type(node).__name__}({', '.join(f'{k}={_written(v)}' for k, v in parts)})"


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
