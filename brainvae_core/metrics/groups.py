"""Where groups differ: linear models of many measures at once, with permutations."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import special, stats

from brainvae_core.metrics.checks import checked_rows
from brainvae_core.metrics.designs import Design
from brainvae_core.metrics.intervals import TAILS

CHUNK = 100_000  # statistics held at once: what a processor keeps near
NOTHING = 1e-9  # a share of a measure's size that is rounding
FAR = 1e3  # of a t or an F: beyond it its interval is no longer looked for
TINY = 1e-14  # a square that is rounding
SIZES = ["value", "low", "high", "effect", "effect_low", "effect_high", "statistic"]
CHANCES = ["p", "p_permuted", "p_family", "q"]


def group_differences(
    values, design: Design, *, n_permutations: int = 1999, seed: int = 0
) -> pd.DataFrame:
    """Adjusted difference, or slope, of every measure, with effect size and p values.

    Groups may vary unequally: without covariates a difference is Welch's test; with them its error
    is HC2 and its degrees of freedom are Bell and McCaffrey's (Imbens, Kolesár 2016), each group
    with its own spread. Residuals of the model without the term are permuted (Freedman, Lane 1983),
    every distinct order where there are no more than asked for; the largest ``|t|`` over measures,
    brought to a normal's scale, gives the family-wise p (Westfall, Young 1993). With fewer than
    five brains in a group take ``p_family`` (``p_permuted`` of one measure that was named
    beforehand), for Welch's p is too small. Several groups are
    compared by the classical F, which takes them to vary equally.

    Parameters
    ----------
    values, design : DataFrame or ndarray, shape (n, k), and Design
        A brain a row, a measure a column: latents, regions or pixels; of the same brains.
    n_permutations, seed : int
        Orders to draw, and their seed; 0 leaves ``p_permuted`` and ``p_family`` NaN.

    Returns
    -------
    DataFrame
        A measure a row. ``value``, ``low``, ``high`` (95 %) in the measure's unit, NaN of several
        groups. ``effect``, with an interval by the noncentral t or F: Hedges' g on the residual
        standard deviation, of a slope for one standard deviation of the term; of several groups
        partial η². ``statistic`` t or F, ``p`` by its distribution, ``p_permuted``, ``p_family``
        over all measures, ``q`` of ``p`` (Benjamini, Hochberg). A measure that does not vary beyond
        the covariates is NaN, with every p and q 1.
    """
    if n_permutations < 0:
        raise ValueError(f"n_permutations={n_permutations} must be 0 or more")
    names, values = measures_of(values, design)
    tested, n = int(design.tested.sum()), len(values)
    basis, unit = basis_of(design.matrix, design.tested)
    residuals, size, varies = residuals_of(basis, tested, values)
    if tested == 1:
        taken = design.matrix[:, design.tested][:, 0]
        levels = np.unique(taken)
        two = len(levels) == 2
        step = np.ptp(taken) if two else taken.std(ddof=1)
        sides = 1.0 * (taken == levels[:, np.newaxis]) if two else np.ones((1, n))
        found = _difference(basis, sides, residuals)
        for name, factor in zip(SIZES[:6], [size / unit] * 3 + [step / unit] * 3, strict=True):
            found[name] = found[name] * factor
    else:
        sides, found = None, _several(basis, tested, residuals)
    if n_permutations:
        orders = orders_of(design.matrix, n_permutations, seed)
        statistics = statistics_of(basis, tested, orders, sides)
        found["p_permuted"], found["p_family"] = _chances(statistics, len(orders), residuals)
    found["q"] = stats.false_discovery_control(found["p"]) if varies.any() else found["p"]
    table = {"measure": names, "contrast": design.contrast}
    for name in SIZES + CHANCES:
        # What does not vary is no finding, and is not drawn by lot either.
        nothing = 1.0 if name in CHANCES and name in found else np.nan
        table[name] = np.full(len(names), nothing)
        if name in found:
            table[name][varies] = found[name]
    return pd.DataFrame(table | {"n_brains": n})


def measures_of(values, design) -> tuple[list, np.ndarray]:
    """Names of the measures, and values (n, k) of the design's brains."""
    names = range(np.shape(values)[-1] if np.ndim(values) else 0)
    if isinstance(values, pd.DataFrame):
        names, counted = values.columns, isinstance(values.index, pd.RangeIndex)
        if not counted and not values.index.equals(design.brains):
            raise ValueError(
                "values and design are of other brains, or of the same in another order; take "
                "both by one list of brains"
            )
        if words := [name for name in names if not pd.api.types.is_numeric_dtype(values[name])]:
            raise ValueError(f"measure {words[0]!r} holds words; give columns of numbers")
        if (gaps := values.isna()).to_numpy().any():
            name = gaps.any().idxmax()
            brains = list(map(str, values.index[gaps[name]]))
            raise ValueError(
                f"measure {name!r} has no value for brain {', '.join(brains[:3])} "
                f"({len(brains)} in all); leave out that measure, or these brains"
            )
    values = checked_rows(values, "values")
    if len(values) != len(design.matrix):
        raise ValueError(
            f"values are of {len(values)} brains and the design of {len(design.matrix)}; give "
            "the same brains to both"
        )
    return list(names), values


def _difference(basis, sides, residuals) -> dict[str, np.ndarray]:
    """Of the one column that stands last: t, with value and effect as shares of that column."""
    seen, left, spread, freedom = _fitted(basis, residuals)
    parts = (sides * _weights(basis)) @ np.square(left)
    error, dof = np.sqrt(parts.sum(axis=0)), _freedom(basis, sides)(parts)
    t = _ratio(seen[-1], error)
    half = stats.t.ppf(TAILS[1], dof) * error
    # Hedges's correction, exact.
    small = math.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2))
    small /= math.sqrt(freedom / 2)
    effect = small * _ratio(seen[-1], spread)
    low, high = (
        np.where(np.isinf(t), effect, small * _ratio(_shift(t, dof, share) * error, spread))
        for share in TAILS[::-1]
    )
    found = (seen[-1], seen[-1] - half, seen[-1] + half, effect, low, high, t)
    return dict(zip(SIZES, found, strict=True)) | {"p": 2 * stats.t.sf(np.abs(t), dof)}


def _several(basis, tested, residuals) -> dict[str, np.ndarray]:
    """Of several columns that stand last: F, and η² of what the others leave."""
    seen, _, spread, freedom = _fitted(basis, residuals)
    f = _ratio(np.square(seen[-tested:]).mean(axis=0), np.square(spread))
    effect = 1 - freedom / (f * tested + freedom)
    shifts = (special.ncfdtrinc(tested, freedom, tail, np.minimum(f, FAR)) for tail in TAILS[::-1])
    low, high = (np.where(f > FAR, effect, shift / (shift + len(basis))) for shift in shifts)
    found = dict(zip(SIZES[3:], (effect, low, np.maximum(high, effect), f), strict=True))
    return found | {"p": stats.f.sf(f, tested, freedom)}


def _fitted(basis, residuals):
    """Share of every column, what is left, its standard deviation and degrees of freedom."""
    seen, freedom = basis.T @ residuals, len(basis) - basis.shape[1]
    left = residuals - basis @ seen
    return seen, left, np.sqrt(np.square(left).sum(axis=0) / freedom), freedom


def _ratio(above, below) -> np.ndarray:
    """Infinite where nothing is left below, and 0 where nothing is above either."""
    above = np.where(np.abs(above) > NOTHING, above, 0.0)
    below = np.where(below > 1e-7, below, 0.0)  # of a square root of rounding
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(above / below, nan=0.0, posinf=np.inf, neginf=-np.inf)


def _shift(t, freedom, share) -> np.ndarray:
    """Noncentrality of which so large a share of t lies below this one."""
    t = np.where(np.isinf(t), 0.0, t)
    near = np.clip(t, -FAR, FAR)  # beyond, it grows as t does
    return special.nctdtrinc(freedom, share, near) * np.maximum(1, np.abs(t) / FAR)


def _chances(statistics, n_orders, residuals) -> tuple[np.ndarray, np.ndarray]:
    """Share of orders whose statistic is as large, of each measure and of the largest of all."""
    reached, wanted = np.zeros((2, residuals.shape[1]))
    largest, width = np.zeros(n_orders), max(1, CHUNK // n_orders)
    for start in range(0, len(wanted), width):
        here = slice(start, start + width)
        found = statistics(residuals[:, here])
        # Orders that are one to the eye differ by rounding.
        wanted[here] = found[0] * (1 - 1e-8)
        reached[here] = (found >= wanted[here]).mean(axis=0)
        np.maximum(largest, found.max(axis=1), out=largest)
    below = np.searchsorted(np.sort(largest), wanted)
    return reached, (n_orders - below) / n_orders


# ---- one linear model of many measures, its residuals in many orders ----


def basis_of(matrix, tested) -> tuple[np.ndarray, float]:
    """Orthonormal columns of a design, the tested ones last, and how long the last one was."""
    columns = np.hstack([matrix[:, ~tested], matrix[:, tested]])
    lengths = np.linalg.norm(columns, axis=0)
    basis, corner = np.linalg.qr(columns / lengths)
    return basis * np.sign(np.diag(corner)), abs(corner[-1, -1]) * lengths[-1]


def residuals_of(basis, n_tested, values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What columns not tested leave of measures, in units of its size; that; which have any."""
    rest = basis[:, :-n_tested]
    residuals = values - rest @ (rest.T @ values)
    size = np.sqrt(np.square(residuals).mean(axis=0))
    varies = size > NOTHING * np.abs(values).max(axis=0)
    return residuals[:, varies] / size[varies], size[varies], varies


def orders_of(matrix, n, seed) -> np.ndarray:
    """Rows of the design for the brains, as they are and n more, or every distinct order."""
    rows = np.arange(len(matrix))
    _, kinds, counts = np.unique(matrix, axis=0, return_inverse=True, return_counts=True)
    logs = special.gammaln(len(matrix) + 1) - special.gammaln(counts + 1).sum()
    if logs > math.log(n + 1.5):
        orders = np.tile(rows, (n + 1, 1))
        orders[1:] = np.random.default_rng(seed).permuted(orders[1:], axis=1)
        return orders
    places = np.argsort(kinds, kind="stable")
    orders = np.empty((round(math.exp(logs)), len(matrix)), dtype=int)
    for order, arrangement in zip(orders, _arrangements(counts.tolist()), strict=True):
        order[np.argsort(arrangement, kind="stable")] = places
    own = (orders == rows).all(axis=1).argmax()
    orders[[0, own]] = orders[[own, 0]]
    return orders


def _arrangements(counts):
    """Every order of so many of each kind."""
    if not any(counts):
        yield ()
    for kind, left in enumerate(counts):
        if left:
            for after in _arrangements([*counts[:kind], left - 1, *counts[kind + 1 :]]):
                yield kind, *after


def _weights(basis) -> np.ndarray:
    """What a brain's squared residual adds to HC2; nothing where the model fits it by itself."""
    free = 1 - np.square(basis).sum(axis=1)
    return np.divide(basis[:, -1] ** 2, free, out=np.zeros(len(basis)), where=free > NOTHING)


def _freedom(basis, sides) -> Callable:
    """What makes degrees of freedom of HC2 from each side's part of it, (sides, …).

    Bell and McCaffrey's, with each side's own spread; of two groups alone they are Welch's.
    """
    maker = np.eye(len(basis)) - basis @ basis.T
    form = maker @ (_weights(basis)[:, np.newaxis] * maker)
    shares, traces = sides @ np.square(basis[:, -1]), sides @ np.diag(form)
    blocks = sides @ np.square(form) @ sides.T / np.outer(shares, shares)

    def freedom(parts):
        parts = np.maximum(parts, TINY)
        return np.square(np.tensordot(traces / shares, parts, 1)) / sum(
            one * sum(factor * other for factor, other in zip(row, parts, strict=True))
            for row, one in zip(blocks, parts, strict=True)
        )

    return freedom


def statistics_of(basis, n_tested, orders, sides=None) -> Callable:
    """What makes F of residuals (brains, k) in every order; with sides, t² on a normal's scale."""
    left_over = len(basis) - basis.shape[1]
    if sides is not None:
        freedom, weights = _freedom(basis, sides), sides * _weights(basis)
    # Residuals sum to 0 in every order: the intercept has no share of them.
    basis = basis[:, np.ptp(basis, axis=0) > NOTHING]
    moved = [column[orders] for column in basis.T]
    if sides is not None:  # what multiplies out to each side's part of HC2
        squared = [side[orders] for side in weights]
        weighted = [[(side * column)[orders] for column in basis.T] for side in weights]
        tables = [basis.T @ (side[:, np.newaxis] * basis) for side in weights]

    def statistics(values):
        squares, seen = np.square(values), [column @ values for column in moved]
        if sides is None:
            above = sum(np.square(share) for share in seen[-n_tested:])
            left = squares.sum(axis=0) - sum(np.square(share) for share in seen)
            return above / np.maximum(left, TINY) * left_over / n_tested
        parts = np.empty((len(sides), *seen[0].shape))
        for part, square, columns, table in zip(parts, squared, weighted, tables, strict=True):
            part[:] = square @ squares
            for row, column, share in zip(table, columns, seen, strict=True):
                cross = sum(one * other for one, other in zip(row, seen, strict=True))
                part += share * (cross - 2 * (column @ values))
        # A t on the scale of a normal (Wallace 1959): its degrees of freedom are every order's own.
        dof = freedom(parts)
        t_squared = np.square(seen[-1]) / np.maximum(parts.sum(axis=0), TINY)
        return dof * np.log1p(t_squared / dof) * np.square((8 * dof + 1) / (8 * dof + 3))

    return statistics
