"""How far brains lie from what is usual of reference brains, by each measure and as a whole."""

from functools import cached_property

import numpy as np
import pandas as pd
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import KFold

from brainvae_core.metrics.checks import checked_rows
from brainvae_core.metrics.designs import is_missing

FEWEST = 12  # reference brains, and one more a covariate; calibrated from about 100 on
SHAPE_SPREAD = 0.5  # of ε and log δ before the data: few brains leave the norm near a Gaussian
COLUMNS = 512  # measures fitted at once
STEPS = 100
SETTLED = 1e-3  # standard deviations
KFOLD = KFold(10, shuffle=True, random_state=0)
SINGULAR = 1e-9

RECORDED = ("sex", "age_days", "strain")
LEAST = 10  # reference brains of a level; of fewer nothing is known
MOST = 8  # levels; more tell brains apart
MARGIN = 0.1  # of the range of numbers: a little beyond it the norm still holds
NO_VALUE = "no value"


class Norm:
    """What is usual of measures of reference brains, and how far other brains are from it.

    A measure is regressed on the covariates. Its residuals are warped to a Gaussian by the
    sinh-arcsinh transform (Jones, Pewsey 2009), which learns skewness and heavy tails, and is
    monotone and finite beyond the data too. Deviations are Student's t, for few brains say little,
    put on a Gaussian's scale (Wallace 1959), and smaller for covariates unlike the reference's.

    Values (n_brains, n_measures) are of ordinary reference brains, at least 12 and one more a
    covariate, and what a model gives, such as its error, of brains that it was not fitted to.
    Covariates (n_brains, n_covariates) are numbers, or 0 or 1 for each level of a factor but the
    first.
    """

    def __init__(self, values, covariates=None):
        values, covariates = _rows(values, covariates)
        n, self.n_measures = values.shape
        self.n_covariates = covariates.shape[1]
        if n < FEWEST + self.n_covariates:
            raise ValueError(
                f"{n} reference brains are too few for a norm with {self.n_covariates} covariates; "
                f"give at least {FEWEST + self.n_covariates}"
            )
        self._centre, self._scale = covariates.mean(axis=0), covariates.std(axis=0)
        if (same := self._scale <= SINGULAR * np.abs(covariates).max(axis=0)).any():
            raise ValueError(
                f"covariate {np.argmax(same)} is the same in all reference brains; leave it out"
            )
        terms = self._terms(covariates)
        basis, triangle = np.linalg.qr(terms)
        if (sums := np.abs(np.diag(triangle)) < SINGULAR * np.sqrt(n)).any():
            raise ValueError(
                f"covariate {np.argmax(sums) - 1} is a sum of the ones before it; leave it out"
            )
        self._unmixed = np.linalg.inv(triangle)
        self._coefficients = self._unmixed @ (basis.T @ values)
        rest = values - terms @ self._coefficients
        self._free = n - terms.shape[1]
        self._spread = np.sqrt(np.square(rest).sum(axis=0) / self._free)
        if (same := self._spread <= SINGULAR * np.abs(values).max(axis=0)).any():
            raise ValueError(
                f"measures {np.flatnonzero(same)[:5].tolist()} do not vary over the reference "
                "brains beyond their covariates; leave them out"
            )
        leverage = np.square(basis).sum(axis=1, keepdims=True)
        if (alone := leverage[:, 0] > 1 - SINGULAR).any():
            raise ValueError(
                f"reference brain {np.argmax(alone)} is the only one with its level of a "
                "covariate; leave it out"
            )
        rest /= self._spread * np.sqrt(1 - leverage)
        self._warp, self._rest = _fitted_warp(rest), rest

    def z(self, values, covariates=None) -> np.ndarray:
        """Deviations of brains (n, n_measures) from the norm in standard deviations, same shape.

        Standard normal for further ordinary brains; those of the reference itself are a little
        nearer.
        """
        values, covariates = _rows(values, covariates, 1)
        found, wanted = (values.shape[1], covariates.shape[1]), (self.n_measures, self.n_covariates)
        if found != wanted:
            raise ValueError(
                "the brains have {} measures and {} covariates, the norm {} and {}; give the same "
                "ones".format(*found, *wanted)
            )
        terms = self._terms(covariates)
        leverage = np.square(terms @ self._unmixed).sum(axis=1, keepdims=True)
        rest = values - terms @ self._coefficients
        return self._gaussian(rest / (self._spread * np.sqrt(1 + leverage)), self._warp)

    def whole(self, values, covariates=None) -> np.ndarray:
        """One z for all measures of a brain together, (n,): high where it is unlike the others.

        The Mahalanobis distance of its deviations, with a shrunk covariance (Ledoit, Wolf 2004),
        against the distances of reference brains that the covariance was not fitted to.
        """
        covariance, distances = self._together
        return distances.z(_log_distance(covariance, self.z(values, covariates)))[:, 0]

    def largest(self, values, covariates=None) -> np.ndarray:
        """One z for the measure that deviates most, (n,), against those of reference brains."""
        return self._extremes.z(_log_largest(self.z(values, covariates)))[:, 0]

    @cached_property
    def _reference(self):
        """Deviations of the reference's own brains, each as if the norm had not seen it."""
        free, z = self._free, np.empty_like(self._rest)
        alone = self._rest * np.sqrt((free - 1) / (free - np.square(self._rest)).clip(min=SINGULAR))
        for fitted, left in KFOLD.split(z):
            warp = _fitted_warp(self._rest[fitted], self._warp)
            z[left] = self._gaussian(alone[left], warp)
        return z

    @cached_property
    def _together(self):
        z, held_out = self._reference, np.empty((len(self._reference), 1))
        shrunk = LedoitWolf(assume_centered=True)
        for fitted, left in KFOLD.split(z):
            held_out[left] = _log_distance(shrunk.fit(z[fitted]), z[left])
        return shrunk.fit(z), Norm(held_out)

    @cached_property
    def _extremes(self):
        return Norm(_log_largest(self._reference))

    def _terms(self, covariates):
        scaled = (covariates - self._centre) / self._scale
        return np.column_stack([np.ones(len(covariates)), scaled])

    def _gaussian(self, rest, warp):
        """Standardised residuals, warped, as deviations on a Gaussian's scale."""
        z, free = _warped(rest, warp)[0], self._free
        size = np.sqrt(free * np.log1p(np.square(z) / free)) * (8 * free + 1) / (8 * free + 3)
        return np.copysign(size, z)


def _rows(values, covariates, least=2):
    """Values and covariates, of which there may be none, brain by brain."""
    values = checked_rows(values, "values", least)
    if covariates is None:
        return values, np.empty((len(values), 0))
    covariates = checked_rows(covariates, "covariates", least)
    _check_rows(values, covariates, "covariates")
    return values, covariates


def _log_distance(covariance, z):
    return np.log(covariance.mahalanobis(z) + np.finfo(float).tiny)[:, None]


def _log_largest(z):
    return np.log(np.abs(z).max(axis=1, keepdims=True) + np.finfo(float).tiny)


# The warp: z = sinh(δ asinh((x − m) / s) − ε).


def _warped(x, warp):
    """z of x (n, k) by a warp (4, k) of m, log s, ε and log δ, and (x − m) / s, δ asinh of it."""
    centre, log_scale, skew, log_tail = warp
    y = (x - centre) * np.exp(-log_scale)
    stretched = np.exp(log_tail) * np.arcsinh(y)
    return np.sinh(np.clip(stretched - skew, -50, 50)), y, stretched


def _fitted_warp(x, start=None):
    """The most likely warp (4, k) of each column of x (n, k), ε and log δ near 0 beforehand."""
    start = np.zeros((4, x.shape[1])) if start is None else start
    blocks = [slice(first, first + COLUMNS) for first in range(0, x.shape[1], COLUMNS)]
    return np.concatenate([_ascended(x[:, some], start[:, some]) for some in blocks], axis=1)


def _ascended(x, start):
    """Damped scoring of all columns at once: a step that makes one less likely is not taken."""
    n, k = x.shape
    warp, damping = start.copy(), np.full(k, 0.01)
    prior = np.array([[0], [0], [1], [1]]) / (n * SHAPE_SPREAD**2)
    value, slope, curve = _likelihood(x, warp, prior)
    moving = np.arange(k)
    for _ in range(STEPS):
        damped = curve[moving] + damping[moving, None, None] * np.eye(4)
        step = np.linalg.solve(damped, slope[:, moving].T[:, :, None])[:, :, 0].T
        found = _likelihood(x[:, moving], warp[:, moving] + step, prior)
        better = found[0] >= value[moving]
        taken = moving[better]
        warp[:, taken] += step[:, better]
        value[taken], curve[taken] = found[0][better], found[2][better]
        slope[:, taken] = found[1][:, better]
        damping[moving] *= np.where(better, 0.3, 5)
        moving = moving[np.abs(step).max(axis=0) > SETTLED]
        if not moving.size:
            break
    return warp


def _likelihood(x, warp, prior):
    """Mean log density of each column (k,), its slope (4, k) and scores' products (k, 4, 4)."""
    z, y, stretched = _warped(x, warp)
    steep, root = np.sqrt(1 + z * z), np.sqrt(1 + y * y)
    pull = z * z * z / steep
    by_y = -pull * np.exp(warp[3]) / root - y / (1 + y * y)
    scores = np.stack([-by_y * np.exp(-warp[1]), -y * by_y - 1, pull, 1 - pull * stretched])
    density = warp[3] - warp[1] + np.log(steep / root) - z * z / 2
    value = density.mean(axis=0) - (prior * warp**2).sum(axis=0) / 2
    slope = scores.mean(axis=1) - prior * warp
    by_column = np.ascontiguousarray(scores.transpose(2, 0, 1))
    products = by_column @ by_column.transpose(0, 2, 1) / len(x)
    return value, slope, products + prior.T[:, :, None] * np.eye(4)


# ---- adjusted by what is known of each brain ----


class AdjustedNorm:
    """A `Norm` that is adjusted for the sex, age and strain of a brain, as far as they are known.

    A covariate is numbers or words, as it is in the reference. A brain without a value, with a
    level that fewer than 10 reference brains have, or with a number more than a tenth of the
    reference's range beyond it gets the norm without that covariate. A covariate is left out
    altogether if fewer than half of the reference brains have it and those before it, or if it says
    the same as they do. ``names`` are those that it knows. Values (n_brains, n_measures) are as for
    `Norm`, and the table has a reference brain a row, in the same order.
    """

    def __init__(self, values, metadata: pd.DataFrame):
        self._values, n = checked_rows(values, "values"), len(metadata)
        _check_rows(self._values, metadata)
        self._scales, self._parts, self._rows = {}, {}, np.ones(n, dtype=bool)
        for name in RECORDED:
            scale = _scale(metadata[name][self._rows]) if name in metadata else None
            if scale is None:
                continue
            part, why = _coded(metadata[name], scale)
            rows = self._rows & (why == "")
            columns = np.column_stack([*self._parts.values(), part])
            if _has_value(columns[rows], n):
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
        why = {name: self._of(metadata, name)[1] for name in self.names}
        return pd.DataFrame(why, metadata.index, self.names)

    def _of(self, metadata, name):
        column = metadata.get(name, pd.Series(np.nan, index=metadata.index))
        return _coded(column, self._scales[name])

    def _each(self, what, values, metadata):
        values = checked_rows(values, "values", 1)
        _check_rows(values, metadata)
        parts = {name: self._of(metadata, name)[0] for name in self.names}
        kinds = [tuple(row) for row in (self.unknown(metadata) == "").to_numpy()]
        found = None
        for kind in set(kinds):
            rows = np.array([one == kind for one in kinds])
            known = _together(parts, kind, rows)
            answer = getattr(self._norm(kind), what)(values[rows], known)
            found = np.empty((len(values), *answer.shape[1:])) if found is None else found
            found[rows] = answer
        return found

    def _norm(self, kind):
        """The norm of brains of which these covariates are known, fitted when one comes."""
        if kind not in self._norms:
            rows = self._rows if any(kind) else slice(None)
            self._norms[kind] = Norm(self._values[rows], _together(self._parts, kind, rows))
        return self._norms[kind]


def _check_rows(values, table, what="metadata"):
    if len(values) != len(table):
        raise ValueError(f"{len(values)} brains have {len(table)} rows of {what}")


def _together(parts, kind, rows):
    known = [part[rows] for part, is_known in zip(parts.values(), kind, strict=True) if is_known]
    return np.hstack(known) if known else None


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


def _has_value(columns, n):
    """Whether of enough of n reference brains each column can be told from the others."""
    if len(columns) < max(n / 2, FEWEST + columns.shape[1]):
        return False
    terms = np.column_stack([np.ones(len(columns)), columns])
    terms = terms / np.linalg.norm(terms, axis=0).clip(min=SINGULAR)
    basis, triangle = np.linalg.qr(terms)
    alone = np.square(basis).sum(axis=1).max() > 1 - SINGULAR
    return not alone and np.abs(np.diag(triangle)).min() > 1e-6
