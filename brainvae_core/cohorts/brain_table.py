"""What is known of brains: a lab's ``metadata.csv``, and what of it can be a factor."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd

from brainvae_core.cohorts.cohort import Cohort

RESERVED = ("artefact", "copy_of", "gain", "outlier", "turned")  # quality control writes these
# Columns of metadata that say what was done to a brain, not what it is.
DERIVED = (*RESERVED, "artefact_strength", "product_id", "split")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
GROUPED = re.compile(r"[-+]?[0-9]{1,3}(,[0-9]{3})+")  # 1,234: thousands, or a decimal comma
POINTED = re.compile(r"[-+]?[1-9][0-9]{0,2}(\.[0-9]{3})+")  # thousands where commas are decimal
NO_VALUE = ("", "na", "n/a", "nan", "none", "null", "-", "?")  # in a column of numbers


def normal(text: str) -> str:
    """A name or value in one Unicode form (NFC), without blanks around it."""
    return re.sub(r"^[\s\ufeff\u200b]+|[\s\ufeff\u200b]+$", "", unicodedata.normalize("NFC", text))


def read_brain_table(path: Path, brains: list[str]) -> pd.DataFrame:
    """The rows of these brains, in this order; what became of each column is printed.

    The first column is the brain's name; commas, semicolons or tabs separate. Empty rows and empty
    columns at the end are passed over. A column in which every value is a number, with decimal
    points or decimal commas, is numbers; any other is text. What is ambiguous is a ValueError that
    names the line or the column.
    """
    names, rows, separator = _text(path)
    lines = [line for line, _ in rows]
    ids = pd.Index([cells[0] for _, cells in rows], name="id", dtype=str)
    if nameless := [line for line, cells in rows if not cells[0]]:
        raise ValueError(f"{path}: line {nameless[0]} has no brain's name in its first column")
    if missing := sorted(set(brains) - set(ids)):
        others = sorted(set(ids) - set(brains))
        hint = f"; rows of no brain here are {', '.join(others[:5])}" if others else ""
        raise ValueError(
            f"{path} has no row for brains {', '.join(missing[:5])}: add one, or take the brain "
            "out of the folder; the first column has to be the brain's name, with commas, "
            f"semicolons or tabs between columns{hint}"
        )
    if twice := sorted(set(ids[ids.duplicated()])):
        where = ", ".join(str(lines[i]) for i in (ids == twice[0]).nonzero()[0])
        raise ValueError(
            f"{path} has ids twice: {', '.join(twice[:5])} (lines {where}); leave one row each"
        )
    if reserved := sorted(c for c in names[1:] if c in RESERVED or c.endswith(("_z", "_score"))):
        raise ValueError(
            f"{path} has columns of quality control: {', '.join(reserved)}; rename them"
        )
    of_brain = {cells[0]: cells for _, cells in rows}
    is_decimal = re.compile(r"[-+]?[0-9]+,[0-9]+").fullmatch
    commas = separator == ";" and any(is_decimal(cell) for _, cells in rows for cell in cells[1:])
    table, columns = pd.DataFrame(index=pd.Index(brains, name="id", dtype=str)), []
    for i, name in enumerate(names[1:], 1):
        values, kind = _typed([of_brain[brain][i] for brain in brains], separator, commas)
        table[name] = values.to_numpy() if values.dtype != "str" else values.array
        columns.append(f"{name}: {kind if name != 'split' else 'the split'}")
    if columns:
        print(f"{path}: {'; '.join(columns)}")
    return table


def brain_ids(path: Path) -> list[str]:
    """Names in a table's first column, of whichever brains."""
    return [cells[0] for _, cells in _text(path)[1]]


def _text(path):
    """Names of the columns, rows of text with their line numbers, and what separates them."""
    if not path.is_file():
        raise ValueError(f"{path} is no file that can be read; a table of brains is a CSV file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    is_utf_16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")  # as Excel's "Unicode text"
    try:
        text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        text = f"\0{error.start}"
    if "\0" in text:
        raise ValueError(f"{path} is no table of brains in UTF-8; save it as CSV UTF-8")
    if found := re.match(r"sep=([,;\t])\r?\n", text):  # as Excel's
        text = text[found.end() :]
    first = next((line for line in text.splitlines() if line.strip(',;\t "')), "")
    separator = re.search(r"[,;\t]", re.sub(r'"[^"]*"', "", first))
    separator = found[1] if found else separator[0] if separator else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = []
    try:
        for cells in reader:
            found = [normal(cell) for cell in cells]
            while found and not found[-1]:
                found.pop()
            if found:
                rows.append((reader.line_num, found, len(cells)))
    except csv.Error as error:
        line = reader.line_num
        raise ValueError(f"{path} is no table of brains: line {line}: {error}") from error
    if not rows:
        raise ValueError(f"{path} is no table of brains: it is empty")
    names = [" ".join(name.split()) for name in rows.pop(0)[1]]
    if "" in names[1:]:
        raise ValueError(f"{path}: column {names.index('', 1) + 1} has no name")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path} has columns twice: {', '.join(twice)}; rename one")
    for line, cells, n_cells in rows:
        if n_cells < len(names):  # which one is left out, nobody can tell
            raise ValueError(
                f"{path}: line {line} has {n_cells} values for {len(names)} columns; leave a value "
                "empty where nothing is known"
            )
        if len(cells) > len(names):
            raise ValueError(
                f"{path}: line {line} has {len(cells)} values for {len(names)} columns; "
                f"does the header lack a name, or a value with {separator!r} in it its quotes?"
            )
    filled = [(line, cells + [""] * (len(names) - len(cells))) for line, cells, _ in rows]
    return names, filled, separator


def _typed(cells, separator, commas):
    """A column as numbers or as text, and in words what it is; a table may have decimal commas."""
    known = [c.replace("\N{MINUS SIGN}", "-") for c in cells if c.casefold() not in NO_VALUE]
    if not any(cells):
        return pd.Series([math.nan] * len(cells)), "no value, not set against latents"
    with_commas, with_points = ([c for c in known if mark in c] for mark in ",.")
    thousands = separator != ";" and with_commas and all(map(GROUPED.fullmatch, with_commas))
    is_pointed = commas and with_points and all(map(POINTED.fullmatch, with_points))
    decimal = "," if with_commas and not with_points else "."
    numbers = [c.replace(".", "") if is_pointed else c.replace(decimal, ".") for c in known]
    if known and not thousands and all(_is_number(c) for c in numbers):
        found = iter(numbers)
        values = [next(found) if c.casefold() not in NO_VALUE else "nan" for c in cells]
        is_whole = all(re.fullmatch(r"[-+]?[0-9]{1,18}", v) for v in values)
        without = sorted({c for c in cells if c and c.casefold() in NO_VALUE})
        kind = "numbers" + (" with decimal commas" if decimal == "," else "")
        kind += " with points between thousands" if is_pointed else ""
        kind += f" ({', '.join(without)} is no value)" if without else ""
        same = (
            ", the same in every brain, not set against latents" if len(set(numbers)) == 1 else ""
        )
        return pd.Series(map(int if is_whole else float, values)), kind + same
    kinds = sorted({c for c in cells if c})
    words = [c for c in kinds if c.casefold() in NO_VALUE]
    odd = [c for c in kinds if c not in words and not _is_number(c)]
    shown = ", ".join(kinds[:4]) + (", …" if len(kinds) > 4 else "")
    if len(kinds) == 1:
        kind = "text, the same in every brain, not set against latents"
    elif len(kinds) == 2:
        kind = f"text of two kinds ({shown})"
    elif thousands:
        kind = (
            f"text, not set against latents: {with_commas[0]} may be thousands or a decimal comma, "
            "write a point"
        )
    elif odd and 2 * sum(map(_is_number, known)) >= len(known):
        kind = f"text, not set against latents: {odd[0]!r} is no number"
    elif words and len(kinds) - len(words) == 2:
        kind = f"text, not set against latents: {words[0]} is a third kind; leave such a cell empty"
    else:
        kind = f"text, not set against latents: {len(kinds)} kinds ({shown}) for two"
    return pd.Series([c or None for c in cells], dtype="str"), kind


def _is_number(text):
    return bool(NUMBER.fullmatch(text)) and math.isfinite(float(text))


# ---- as factors ----


def known_factors(cohort: Cohort) -> pd.DataFrame:
    """The planted factors of a simulated cohort, else what is recorded of each brain and varies.

    Recorded are numbers, texts of two kinds as 0 and 1 (named after the kind that is 1, such as
    ``sex M``), and ``log_gain`` of the brightness adjustment. A missing value is its column's mean.
    A column of one value, in the training or the test part, is left out.
    """
    if cohort.factors is not None:
        return cohort.factors.astype(float)
    metadata, found = cohort.metadata, {}
    for name, values in metadata.items():
        if name in DERIVED or name.endswith(("_z", "_score")):
            continue
        kinds = sorted(values.dropna().astype(str).unique())
        numbers = pd.to_numeric(values, errors="coerce")
        if np.isfinite(numbers[values.notna()]).all():
            found[name] = numbers
        elif len(kinds) == 2:
            found[f"{name} {kinds[1]}"] = values.astype(str).map({kinds[0]: 0.0, kinds[1]: 1.0})
    if "gain" in metadata:
        found["log_gain"] = np.log(metadata["gain"])
    factors = pd.DataFrame(found, index=metadata.index, dtype=float)
    factors = factors.replace([np.inf, -np.inf], np.nan)
    factors = factors.fillna(factors.mean())
    split = metadata.get("split", pd.Series("train", index=metadata.index))
    parts = [part for name, part in factors.groupby(split) if name in ("train", "test")]
    varies = [all(part[name].nunique() > 1 for part in parts) for name in factors]
    return factors.loc[:, varies]


def factor_extremes(
    factors: pd.DataFrame, images: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean section of the brains lowest and of those highest in each factor (n rows).

    5 % at either end, at least one, and all that tie with the last: of a 0/1 factor that occurs
    often enough the ends are its two groups. Images are (n, height, width).
    """
    if len(factors) != len(images) or not len(images):
        raise ValueError(f"{len(factors)} rows of factors and {len(images)} images")
    few = max(int(0.05 * len(images)), 1)
    extremes = {}
    for name, values in factors.items():
        ranked = np.sort(values)
        low, high = (values <= ranked[few - 1]).to_numpy(), (values >= ranked[-few]).to_numpy()
        extremes[str(name)] = (images[low].mean(axis=0), images[high].mean(axis=0))
    return extremes
