"""Who is compared with whom, a lab's columns as a design matrix, and what so many brains show."""

import bisect
import difflib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, stats

from brainvae_core.metrics.checks import check_positive

CONTROLS = (
    *("wt", "wild type", "wild-type", "wildtype", "+/+", "control", "controls", "ctrl", "ctl"),
    *("vehicle", "veh", "saline", "pbs", "placebo", "sham", "untreated", "naive", "baseline"),
)
MISSING = ("", "na", "n/a", "nan", "null", "?", "unknown")
MOST = 1_000_000  # brains a group
SURE = 40.0  # standard errors, with which any test is sure
ALPHA, POWER = 0.05, 0.8  # share of false alarms, and of differences that are to be found
FEW = 0.1  # of a column's entries: so many that are no numbers are taken for slips


class Design(NamedTuple):
    """Design matrix of a linear model and which of its columns are asked about.

    ``matrix`` (n, k), the intercept first, with the names ``columns``; ``tested`` (k,) bool;
    ``contrast`` is "KO − WT", "per unit of age" or "WT, HET, KO"; ``brains`` (n,) are its rows.
    """

    term: str
    contrast: str
    columns: list[str]
    matrix: np.ndarray
    tested: np.ndarray
    brains: pd.Index

    @property
    def effect(self) -> str:
        """What its effect sizes are, in words."""
        if self.tested.sum() > 1:
            return f"partial η² of {self.contrast}"
        if self.contrast.startswith("per unit"):
            return f"standard deviations by one of {self.term}"
        return f"{self.contrast}, in standard deviations"


def usable_brains(metadata, term, covariates=()) -> tuple[np.ndarray, dict[str, str]]:
    """Brains that a linear model can take, (n,) bool, and of every other why not, by its name."""
    columns = _columns(metadata, term, covariates)
    missing = {name: is_missing(metadata[name]) for name in columns}
    why = {
        place: "no " + ", ".join(names)
        for place in range(len(metadata))
        if (names := [name for name in columns if missing[name][place]])
    }
    levels = {name: _levels(metadata[name][~missing[name]], name) for name in columns[1:]}
    levels = {name: found for name, found in levels.items() if found is not None}
    places = pd.Series(range(len(metadata)), metadata.index)
    found = -1
    while found != len(why):  # who is left out may leave another alone
        found = len(why)
        for name, column in levels.items():
            column = column[~places[column.index].isin(list(why))]
            alone = _alone(column)
            if 2 * len(alone) <= len(column):  # else it tells brains apart, which is refused
                for brain, level in column[column.isin(alone)].items():
                    why.setdefault(places[brain], f"the only brain with {name} {level!r}")
    usable = ~np.isin(np.arange(len(metadata)), list(why))
    return usable, {str(metadata.index[place]): why[place] for place in sorted(why)}


def design_of(metadata: pd.DataFrame, term: str, covariates: Sequence[str] = ()) -> Design:
    """Design of a term adjusted for covariates, in treatment coding.

    Of two groups the second less the first is asked about, which is a control by its name ("WT",
    "control", "vehicle", "sham", …) or else comes first in the alphabet. Numbers are slopes, but
    for a term of two numbers, which are groups. More than two groups are tested together. Refused
    are columns with missing values, one level, a level of one brain or as many levels as an
    identifier, collinear terms, and fewer brains than columns + 2.

    Parameters
    ----------
    metadata : DataFrame
        A brain a row; blanks, NA and "unknown" are missing values.
    term, covariates : str and sequence of str
        Columns: what is asked about, and what is adjusted for.
    """
    names = _columns(metadata, term, covariates)
    coded = {name: _coded(metadata[name], name) for name in names}
    sources = [name for name in names for _ in coded[name]]
    columns = {column: values for name in names for column, values in coded[name].items()}
    matrix = np.column_stack([np.ones(len(metadata)), *columns.values()])
    _check_model(matrix, sources)
    tested = np.array([False, *(name == term for name in sources)])
    contrast, texts = f"per unit of {term}", _levels(metadata[term], term)
    if texts is not None:
        levels = _ordered(texts)
        contrast = " − ".join(levels[::-1]) if len(levels) == 2 else ", ".join(levels)
    return Design(term, contrast, ["intercept", *columns], matrix, tested, metadata.index)


def usable_design(
    metadata: pd.DataFrame, term: str, covariates: Sequence[str] = ()
) -> tuple[Design, np.ndarray, dict[str, str]]:
    """`design_of` the brains that have one, which these are, (n,) bool, and why not the others.

    Left out, by name, are brains without a value ("no age_days") and those alone in a level of a
    covariate, which explains them away ("the only brain with batch 'B3'"). Where these leave fewer
    than two of a group, it is refused with their names.

    Parameters
    ----------
    metadata, term, covariates
        As for `design_of`.
    """
    used, why = usable_brains(metadata, term, covariates)
    groups = _levels(metadata[term][~is_missing(metadata[term])], term)
    for group in [] if groups is None else _ordered(groups):
        names = list(map(str, groups.index[groups == group]))
        lost = [f"{name} ({why[name]})" for name in names if name in why]
        left = [name for name in names if name not in why]
        if lost and len(left) < 2:
            count = f"one brain, {left[0]}, is" if left else "no brain is"
            raise ValueError(
                f"of {term} {group!r} {count} left, and a group takes two; left out for a "
                f"covariate: {_some(lost)}; correct the table, or leave out that covariate"
            )
    return design_of(metadata[used], term, covariates), used, why


def _columns(metadata, term, covariates) -> list[str]:
    """The term and the covariates, each a column and each once."""
    if isinstance(covariates, str):
        raise ValueError(f"covariates={covariates!r} is one name; give a list of names")
    if (twice := metadata.index.duplicated()).any():
        raise ValueError(f"two rows are of brain {_some(metadata.index[twice])}; keep one of them")
    names = [term, *covariates]
    for name in names:
        if name not in metadata:
            near = difflib.get_close_matches(str(name), map(str, metadata), 1)
            hint = f"it has {', '.join(map(str, metadata))}"
            hint = f"did you mean {near[0]!r}?" if near else hint
            raise ValueError(f"the table of brains has no column {name!r}; {hint}")
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is named twice; a column is the term or a covariate, once")
    return names


def is_missing(column: pd.Series) -> np.ndarray:
    """Which entries of a column are blank, NA, "unknown" or no finite number, (n,) bool."""
    texts = column.astype(str).str.strip().str.lower()
    numbers = pd.to_numeric(texts, errors="coerce")
    return (column.isna() | texts.isin(MISSING) | np.isinf(numbers)).to_numpy()


def _levels(column: pd.Series, name: str) -> pd.Series | None:
    """Every brain's level, of words or of no more than two numbers; None of what is a slope."""
    numbers = _numbers(column, name)
    if numbers is None:
        return _texts(column)
    return numbers.map("{:.10g}".format) if numbers.nunique() <= 2 else None


def _texts(column: pd.Series) -> pd.Series:
    return column.astype(str).str.strip()


def _ordered(levels: pd.Series) -> list[str]:
    """Levels as they are compared: a control first, numbers by size."""
    numbers = pd.to_numeric(pd.Series(levels.unique()), errors="coerce")
    if numbers.notna().all():
        return [x for _, x in sorted(zip(numbers, levels.unique(), strict=True))]
    return sorted(levels.unique(), key=lambda level: (level.lower() not in CONTROLS, level))


def _alone(levels: pd.Series) -> list[str]:
    """Levels of one brain."""
    return [level for level, count in sorted(levels.value_counts().items()) if count == 1]


def _numbers(column: pd.Series, name: str) -> pd.Series | None:
    """The column as numbers, None of a column of words, or why it is neither."""
    if pd.api.types.is_datetime64_any_dtype(column):
        raise ValueError(f"{name} holds dates; give a number, such as days since the first of them")
    if (missing := is_missing(column)).any():
        raise ValueError(
            f"{name} has no value for {_some(column.index[missing])}; leave these brains out, as "
            "usable_design does, or fill it in"
        )
    texts = _texts(column)
    numbers = pd.to_numeric(texts, errors="coerce")
    if numbers.notna().all():
        return numbers.astype(float)
    point = pd.to_numeric(texts.str.replace(",", "."), errors="coerce").notna()
    comma = point & texts.str.contains(",")
    if comma.any() and point.all():
        raise ValueError(
            f"{name} has a decimal comma, {texts[comma].iloc[0]!r}, for "
            f"{_some(column.index[comma])}; write a point"
        )
    if 0 < (~point).sum() <= FEW * len(texts):
        raise ValueError(
            f"{name} holds numbers, but {texts[~point].iloc[0]!r} for "
            f"{_some(column.index[~point])}; write a number, or leave it empty"
        )
    return None


def _coded(column: pd.Series, name: str) -> dict[str, np.ndarray]:
    """Columns of the design matrix that a column of the table makes."""
    texts = _levels(column, name)
    if texts is None:
        return {name: _numbers(column, name).to_numpy()}
    levels = _ordered(texts)
    alone = _alone(texts)
    if len(levels) == 1:
        raise ValueError(
            f"{name} is {levels[0]!r} for every brain; a comparison takes two levels: leave it out"
        )
    if 2 * len(alone) > len(column):
        raise ValueError(
            f"{name} has {len(levels)} values for {len(column)} brains; it tells brains apart and "
            "not groups: name another column"
        )
    alike = {}
    for level in levels:
        if (other := alike.setdefault(level.lower(), level)) != level:
            raise ValueError(f"{name} has {other!r} and {level!r}; write one of them throughout")
    if alone:
        raise ValueError(
            f"{name} has one brain with {alone[0]!r}; a group takes two: add one, join it to "
            "another group, or leave it out"
        )
    return {f"{name} {level}": (texts == level).to_numpy(dtype=float) for level in levels[1:]}


def _check_model(matrix, sources) -> None:
    """Too few brains for the columns, and columns that are sums of others, are refused by name."""
    if len(matrix) < matrix.shape[1] + 2:
        raise ValueError(
            f"{len(matrix)} brains are too few for {matrix.shape[1]} columns of the model "
            f"({', '.join(dict.fromkeys(['intercept', *sources]))}); give at least "
            f"{matrix.shape[1] + 2}, or fewer covariates"
        )
    centred = matrix[:, 1:] - matrix[:, 1:].mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    if (lengths <= 1e-12 * np.abs(matrix[:, 1:]).max(axis=0)).any():
        raise ValueError("a column of the model is the same for all; the intercept is the first")
    centred = centred / lengths
    for last in range(1, len(sources)):
        share = np.linalg.lstsq(centred[:, :last], centred[:, last], rcond=None)[0]
        if np.linalg.norm(centred[:, last] - centred[:, :last] @ share) < 1e-7:
            others = {sources[j] for j in np.flatnonzero(np.abs(share) > 1e-7)} - {sources[last]}
            named = " and ".join(name for name in dict.fromkeys(sources) if name in others)
            raise ValueError(
                f"{sources[last]} says the same as {named}: their effects cannot be told apart; "
                "leave one of them out"
            )


def _some(brains) -> str:
    names = ", ".join(map(str, brains[:3]))
    return names if len(brains) <= 3 else f"{names} and {len(brains) - 3} more"


# ---- how many brains show a difference ----


def brains_needed(spread: float, difference: float, *, n_measures: int = 1) -> int:
    """Brains in each of two groups of which a two-sided t test at 0.05 finds a difference.

    In 80 of 100 studies, exactly, by the noncentral t; a million brains are the most.

    Parameters
    ----------
    spread, difference : float
        Standard deviation within the groups, and difference of their means, in one unit.
    n_measures : int
        Measures that are tested together, by Bonferroni's ``0.05 / n_measures`` each.
    """
    _check(n_measures, spread=spread, difference=abs(difference))
    size = abs(difference) / spread
    counts = range(2, MOST)
    place = bisect.bisect_left(counts, POWER, key=lambda n: float(_power(size, n, n, n_measures)))
    if place == len(counts):
        raise ValueError(
            f"a difference of {difference:g} is {size:.2g} standard deviations: {MOST:,} brains a "
            "group do not show it; ask for a larger difference"
        )
    return counts[place]


def smallest_difference(spread: float, n_a: int, n_b: int, *, n_measures: int = 1) -> float:
    """Difference of two groups' means that a two-sided t test finds in 80 of 100 studies.

    Parameters
    ----------
    spread, n_measures
        As of `brains_needed`; the difference is in the unit of ``spread``.
    n_a, n_b : int
        Brains of the two groups, at least two of each.
    """
    _check(n_measures, spread=spread)
    if min(n_a, n_b) < 2:
        raise ValueError(f"groups of {n_a} and {n_b} brains have no spread; give two of each")
    unit = math.sqrt(1 / n_a + 1 / n_b)
    most = stats.t.isf(ALPHA / n_measures / 2, n_a + n_b - 2) + SURE
    while _power(most * unit, n_a, n_b, n_measures) < POWER:
        most *= 2
    found = optimize.brentq(lambda size: _power(size, n_a, n_b, n_measures) - POWER, 0, most * unit)
    return float(found * spread)


def _power(size, n_a, n_b, n_measures):
    """Of a two-sided t test of a difference of so many standard deviations."""
    freedom, shift = n_a + n_b - 2, abs(size) / math.sqrt(1 / n_a + 1 / n_b)
    edge = stats.t.isf(ALPHA / n_measures / 2, freedom)
    return stats.nct.sf(edge, freedom, shift) + stats.nct.sf(edge, freedom, -shift)


def _check(n_measures, **lengths) -> None:
    check_positive(**lengths)
    if n_measures < 1:
        raise ValueError(f"n_measures={n_measures} must be 1 or more")
