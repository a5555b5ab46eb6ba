"""How many brains show a difference, and how small a difference so many can show."""

import bisect
import math

import numpy as np
import pandas as pd
from scipy import optimize, stats

from brainvae_core.metrics.checks import check_positive, checked_rows

MOST = 1_000_000  # brains a group
SURE = 40.0  # standard errors, with which any test is sure


def brains_needed(
    spread: float,
    difference: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    n_measures: int = 1,
) -> int:
    """Brains in each of two groups for a two-sided t test to find a difference.

    Exact, by the noncentral t.

    Parameters
    ----------
    spread, difference : float
        Standard deviation within the groups, and difference of their means, in one unit.
    alpha, power : float
        Share of false alarms, and share of such differences that are to be found.
    n_measures : int
        Measures that are tested together, by Bonferroni's ``alpha / n_measures`` each.

    Raises
    ------
    ValueError
        A number is out of its range, or a million brains are not enough.
    """
    _check(alpha, power, n_measures, spread=spread, difference=abs(difference))
    size = abs(difference) / spread
    counts = range(2, MOST)
    place = bisect.bisect_left(
        counts, power, key=lambda n: float(_power(size, n, n, alpha / n_measures))
    )
    if place == len(counts):
        raise ValueError(
            f"a difference of {difference:g} is {size:.2g} standard deviations: {MOST:,} brains a "
            "group do not show it; ask for a larger difference"
        )
    return counts[place]


def smallest_difference(
    spread: float,
    n_a: int,
    n_b: int,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    n_measures: int = 1,
) -> float:
    """Difference of two groups' means that a two-sided t test finds, in the unit of ``spread``.

    Parameters
    ----------
    spread, alpha, power, n_measures
        As of `brains_needed`.
    n_a, n_b : int
        Brains of the two groups, at least two of each.
    """
    _check(alpha, power, n_measures, spread=spread)
    if min(n_a, n_b) < 2:
        raise ValueError(f"groups of {n_a} and {n_b} brains have no spread; give two of each")
    alpha, unit = alpha / n_measures, math.sqrt(1 / n_a + 1 / n_b)
    most = stats.t.isf(alpha / 2, n_a + n_b - 2) + SURE
    while _power(most * unit, n_a, n_b, alpha) < power:
        most *= 2
    found = optimize.brentq(lambda size: _power(size, n_a, n_b, alpha) - power, 0, most * unit)
    return float(found * spread)


def power_curve(
    values,
    difference,
    n_per_group,
    *,
    covariates: np.ndarray | None = None,
    alpha: float = 0.05,
    n_measures: int = 1,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Share of small studies, drawn from reference brains, that find a planted difference.

    Of every size two groups are drawn without replacement, one gets the difference, and Student's
    t test is asked; the noncentral t's answer, which takes values to be normal, stands beside. A
    change that makes brains vary more is found less often than both say.

    Parameters
    ----------
    values : DataFrame or ndarray, shape (n, k)
        Reference brains, a measure a column.
    difference : float or sequence, shape (k,)
        Added to one group, in the measure's unit.
    n_per_group : sequence of int
        Sizes of a group, at most half of the reference brains.
    covariates : ndarray, shape (n, c), optional
        Numbers whose linear part is taken off the reference brains first.
    alpha, n_measures
        As of `brains_needed`.
    draws, seed : int
        Studies of each size, and their seed.

    Returns
    -------
    DataFrame
        A measure and size a row: ``measure``, ``n_per_group``, ``difference``, ``power`` with
        ``low`` and ``high`` (95 %, Clopper and Pearson), ``formula``, ``draws``.
    """
    _check(alpha, 0.5, n_measures)
    names = list(values.columns) if isinstance(values, pd.DataFrame) else None
    values = checked_rows(values, "values", 4)
    names = names or list(range(values.shape[1]))
    n, known = len(values), 1
    if covariates is not None:
        beside = np.column_stack([np.ones(n), checked_rows(covariates, "covariates")])
        values = values - beside @ np.linalg.lstsq(beside, values, rcond=None)[0]
        known = np.linalg.matrix_rank(beside)
    if min(n_per_group) < 2 or 2 * max(n_per_group) > n:
        raise ValueError(
            f"groups of {min(n_per_group)} to {max(n_per_group)} brains cannot be drawn from {n} "
            f"reference brains; ask for 2 to {n // 2}"
        )
    spread = np.sqrt(np.square(values - values.mean(axis=0)).sum(axis=0) / (n - known))
    sizes = np.broadcast_to(np.asarray(difference, dtype=float), spread.shape)
    rng, rows, alpha = np.random.default_rng(seed), [], alpha / n_measures
    for count in n_per_group:
        taken = np.argsort(rng.random((draws, n)), axis=1)[:, : 2 * count]
        for name, column, size, deviation in zip(names, values.T, sizes, spread, strict=True):
            a, b = column[taken[:, :count]], column[taken[:, count:]] + size
            found = int((stats.ttest_ind(a, b, axis=1).pvalue < alpha).sum())
            ends = stats.binomtest(found, draws).proportion_ci()
            formula = float(_power(size / deviation, count, count, alpha)) if deviation else np.nan
            row = {"measure": name, "n_per_group": count, "difference": size}
            row |= {"power": found / draws, "low": ends.low, "high": ends.high}
            rows.append(row | {"formula": formula, "draws": draws})
    return pd.DataFrame(rows)


def _power(size, n_a, n_b, alpha):
    """Of a two-sided t test of a difference of so many standard deviations."""
    freedom, shift = n_a + n_b - 2, abs(size) / math.sqrt(1 / n_a + 1 / n_b)
    edge = stats.t.isf(alpha / 2, freedom)
    return stats.nct.sf(edge, freedom, shift) + stats.nct.sf(edge, freedom, -shift)


def _check(alpha, power, n_measures, **lengths) -> None:
    check_positive(**lengths)
    if not 0 < alpha < power < 1 or n_measures < 1:
        raise ValueError(
            f"alpha={alpha} and power={power} must be shares, alpha the smaller, and "
            f"n_measures={n_measures} at least 1"
        )
