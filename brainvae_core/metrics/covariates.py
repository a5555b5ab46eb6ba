"""Norms that know what was recorded of each brain, such as its sex, age and strain."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brainvae_core.metrics.checks import checked_rows
from brainvae_core.metrics.designs import is_missing
from brainvae_core.metrics.normative import FEWEST, SINGULAR, Norm

RECORDED = ("sex", "age_days", "strain")
LEAST = 10  # reference brains of a level; of fewer nothing is known
MOST = 8  # levels; more tell brains apart
MARGIN = 0.1  # of the range of numbers: a little beyond it the norm still holds
NO_VALUE = "no value"


class AdjustedNorm:
    """A `Norm` that is adjusted for those covariates that are known of a brain, brain by brain.

    A covariate is numbers or words, as it is in the reference. A brain without a value, with a
    level that fewer than 10 reference brains have, or with a number more than a tenth of the
    reference's range beyond it gets the norm without that covariate. A covariate is left out
    altogether if fewer than half of the reference brains have it and those before it, or if it says
    the same as they do.

    Parameters
    ----------
    values : array, shape (n_brains, n_measures)
        As for `Norm`.
    metadata : DataFrame
        A reference brain a row, in the order of ``values``.
    names : sequence of str
        Columns to adjust for, as far as the reference has them.

    Attributes
    ----------
    names : list of str
        The covariates that it knows.
    """

    def __init__(self, values, metadata: pd.DataFrame, names: Sequence[str] = RECORDED):
        self._values, n = checked_rows(values, "values", 2), len(metadata)
        if len(self._values) != n:
            raise ValueError(f"{len(self._values)} brains have {n} rows of metadata")
        self._scales, self._parts, self._rows = {}, {}, np.ones(n, dtype=bool)
        for name in names:
            scale = _scale(metadata[name][self._rows]) if name in metadata else None
            if scale is None:
                continue
            part, why = _coded(metadata[name], scale)
            rows = self._rows & (why == "")
            columns = np.column_stack([*self._parts.values(), part])
            if _is_told(columns[rows], n):
                self._scales[name], self._parts[name], self._rows = scale, part, rows
        self.names, self._norms = list(self._scales), {}

    def z(self, values, metadata: pd.DataFrame) -> np.ndarray:
        """Deviations of brains (n, n_measures), as of `Norm.z`, each by what is known of it."""
        return self._each("z", values, metadata)

    def whole(self, values, metadata: pd.DataFrame) -> np.ndarray:
        """One z for all measures of a brain together, as of `Norm.whole`, (n,)."""
        return self._each("whole", values, metadata)

    def largest(self, values, metadata: pd.DataFrame) -> np.ndarray:
        """One z for the measure that deviates most, as of `Norm.largest`, (n,)."""
        return self._each("largest", values, metadata)

    def unknown(self, metadata: pd.DataFrame) -> pd.DataFrame:
        """Why a brain's norm is without a covariate, brains × `names`; "" where it is with it."""
        return pd.DataFrame(
            {name: self._of(metadata, name)[1] for name in self.names},
            index=metadata.index,
            columns=self.names,
        )

    def _of(self, metadata, name):
        column = metadata.get(name, pd.Series(np.nan, index=metadata.index))
        return _coded(column, self._scales[name])

    def _each(self, what, values, metadata):
        values = checked_rows(values, "values", 1)
        if len(values) != len(metadata):
            raise ValueError(f"{len(values)} brains have {len(metadata)} rows of metadata")
        parts = {name: self._of(metadata, name)[0] for name in self.names}
        kinds = [tuple(row) for row in (self.unknown(metadata) == "").to_numpy()]
        found = None
        for kind in dict.fromkeys(kinds):
            rows = np.array([one == kind for one in kinds])
            known = [
                parts[name][rows] for name, is_known in zip(parts, kind, strict=True) if is_known
            ]
            given = (values[rows], np.hstack(known)) if known else (values[rows],)
            answer = getattr(self._norm(kind), what)(*given)
            found = np.empty((len(values), *answer.shape[1:])) if found is None else found
            found[rows] = answer
        return found

    def _norm(self, kind):
        """The norm of brains of which these covariates are known, fitted when one comes."""
        if kind not in self._norms:
            parts = zip(self._parts.values(), kind, strict=True)
            known = [part[self._rows] for part, is_known in parts if is_known]
            given = (self._values[self._rows], np.hstack(known)) if known else (self._values,)
            self._norms[kind] = Norm(*given)
        return self._norms[kind]


def _scale(column):
    """Of numbers the least and the largest; of words the levels; None of what tells nothing."""
    known = column[~is_missing(column)]
    numbers = pd.to_numeric(known, errors="coerce")
    if numbers.notna().all():
        ends = (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 0.0)
        return ends if ends[0] < ends[1] else None
    counts = known.astype(str).str.strip().value_counts()
    levels = sorted(counts.index[counts >= LEAST])
    return levels if 2 <= len(levels) <= MOST else None


def _coded(column, scale):
    """A covariate's columns (n, k), with 0 where it is not known, and why it is not, (n,)."""
    words = column.astype(str).str.strip()
    if isinstance(scale, tuple):
        numbers = pd.to_numeric(words, errors="coerce").to_numpy(dtype=float)
        low, high = scale
        with np.errstate(invalid="ignore"):
            within = np.abs(numbers - (low + high) / 2) <= (0.5 + MARGIN) * (high - low)
        beyond = f"beyond the reference's {low:g} to {high:g}"
        why = [
            f"{word} is {beyond if np.isfinite(x) else 'no number'}"
            for word, x in zip(words, numbers, strict=True)
        ]
        part = np.where(within, numbers, 0.0)[:, np.newaxis]
    else:
        places = {level.casefold(): i for i, level in enumerate(scale)}
        place = words.str.casefold().map(places).fillna(-1).to_numpy(dtype=int)
        within = place >= 0
        why = [f"{word!r} is none of the reference's {', '.join(scale)}" for word in words]
        part = np.eye(len(scale))[place][:, 1:] * within[:, np.newaxis]
    why = np.where(within, "", why).astype(object)
    missing = is_missing(column)
    part[missing], why[missing] = 0.0, NO_VALUE
    return part, why


def _is_told(columns, n):
    """Whether of enough of n reference brains each column can be told from the others."""
    if len(columns) < max(n / 2, FEWEST + columns.shape[1]):
        return False
    terms = np.column_stack([np.ones(len(columns)), columns])
    terms = terms / np.linalg.norm(terms, axis=0).clip(min=SINGULAR)
    basis, triangle = np.linalg.qr(terms)
    alone = np.square(basis).sum(axis=1).max() > 1 - SINGULAR
    return not alone and np.abs(np.diag(triangle)).min() > 1e-6
