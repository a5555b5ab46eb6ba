"""How far a number could be off: intervals over brains and over seeds of a fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import expit, logit

DRAWS = 4000
GROUPS = 20
UNBOUNDED = (-np.inf, np.inf)
SHARE = (0.0, 1.0)
LEVEL = 0.95  # share of intervals that are to hold the truth
TAILS = (1 - LEVEL) / 2, (1 + LEVEL) / 2


class Estimate(NamedTuple):
    """A number, the ends of its interval, and how many brains and fits (seeds) it is made from."""

    value: float
    low: float
    high: float
    n_brains: int
    n_seeds: int

    def __str__(self):
        # Two digits of the interval's half: more would say nothing.
        half = (self.high - self.low) / 2
        decimals = min(max(0, 1 - math.floor(math.log10(half))), 4) if half > 0 else 3
        if abs(self.value) > 1 and all(float(x).is_integer() for x in self[:3]):  # it counts
            decimals = 0
        # An interval that does not hold zero must not look as if it did.
        while self.sign and decimals < 4 and 0 in (round(x, decimals) for x in self[1:3]):
            decimals += 1
        value, low, high = (f"{round(x, decimals) + 0.0:,.{decimals}f}" for x in self[:3])
        return f"{value} [{low}, {high}]".replace("-", "−")

    @property
    def sign(self) -> int:
        """1 or −1 where the interval is on one side of zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    def above(self, threshold: float) -> Estimate:
        """How far it lies above a threshold: positive where it does."""
        ends = (end - threshold for end in self[:3])
        return Estimate(*ends, *self[3:])

    def below(self, threshold: float) -> Estimate:
        """How far it lies below a threshold: positive where it does."""
        value, low, high = (threshold - end for end in self[:3])
        return Estimate(value, high, low, *self[3:])


def estimate(scores: np.ndarray, bounds=UNBOUNDED) -> Estimate:
    """Mean score with its interval.

    Brains, at least two, are resampled with replacement, the same for every seed, and the
    resamples' spread is widened to what Student's t gives for so few. The seeds are too few for
    resampling (a bootstrap of three is too narrow): their part is Student's t of the seeds' means.

    Parameters
    ----------
    scores : ndarray, shape (n_brains,) or (n_seeds, n_brains)
        Of one fit, or of several fits of one model to the same brains.
    bounds : (low, high)
        What the score, and so its interval, cannot pass.
    """
    return _bootstrap([_checked(scores, "scores")], [1], bounds)


def difference(scores_a: np.ndarray, scores_b: np.ndarray) -> Estimate:
    """Mean of a − b on the same brains, as of `estimate`: positive where a is larger.

    In the unit of the scores, each (n_brains,) or (n_seeds, n_brains). Brains are paired, fits are
    not: ``n_seeds`` is the smaller of their numbers, but for a model with one fit, as PCA has,
    which is exact.
    """
    a, b = _checked(scores_a, "scores_a"), _checked(scores_b, "scores_b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"scores_a has {a.shape[1]} brains and scores_b {b.shape[1]}; a difference is of the "
            "same brains"
        )
    return _bootstrap([a, b], [1, -1], UNBOUNDED)


def share_difference(a: Estimate, b: Estimate) -> Estimate:
    """Difference of two shares from their own intervals (Newcombe 1998, method 10).

    For shares near 0 or 1, of which paired differences would show no spread: none of sixteen found
    is not none to be found. The two are taken as independent, so of the same brains it is too wide.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    fits = min((n for n in (a.n_seeds, b.n_seeds) if n > 1), default=1)
    return Estimate(value, low, high, min(a.n_brains, b.n_brains), fits)


def jackknife(
    statistic: Callable[..., float], fits: Sequence[Sequence[np.ndarray]], bounds=UNBOUNDED
) -> Estimate:
    """A statistic of many brains together, with its interval (Efron, Tibshirani 1993, ch. 11).

    For what is no mean over brains, such as a Fréchet distance, to which a bootstrap's repeats
    would be fewer brains: 20 groups of brains are left out in turn (each brain by itself where
    there are fewer), and seeds enter as for `estimate`. Intervals of shares hold also the one on
    the logit scale with half a brain added on either side, so that 1 of 20 brains without a miss is
    [0.85, 1]. For nearest neighbours, and for a Fréchet distance near 0, they are too wide.

    Parameters
    ----------
    statistic, fits : callable and sequence of sequence of ndarray, each (n_brains, …)
        Of one fit's arrays, such as `auc`; the arrays, a fit each, of at least three brains.
    bounds : (low, high)
        As for `estimate`; (0, 1) says that the statistic is a share.
    """
    lengths = {len(array) for arrays in fits for array in arrays}
    if len(lengths) != 1 or min(lengths) < 3:
        raise ValueError(
            f"the arrays have {sorted(lengths)} brains; they must have one number, at least 3"
        )
    values = np.stack([jackknife_values(statistic, arrays) for arrays in fits])
    return from_jackknife(values, *lengths, bounds=bounds)


def jackknife_values(statistic: Callable[..., float], arrays: Sequence[np.ndarray]) -> np.ndarray:
    """What `jackknife` asks of a fit: on all brains, then without each of 20 groups, (21,)."""
    n = len(arrays[0])
    groups = np.array_split(np.random.default_rng(0).permutation(n), min(GROUPS, n))
    rows = [np.arange(n), *(np.delete(np.arange(n), group) for group in groups)]
    return np.array([statistic(*(array[of] for array in arrays)) for of in rows])


def from_jackknife(
    values: np.ndarray, n_brains: int, less: np.ndarray | None = None, bounds=UNBOUNDED
) -> Estimate:
    """`jackknife`'s interval from `jackknife_values`, a fit a row; ``less`` are another model's."""
    models = [values] if less is None else [values, less]
    models = [np.asarray(of, dtype=np.float64) for of in models]
    shapes = {of.shape[1:] for of in models}
    if {of.ndim for of in models} != {2} or len(shapes) > 1 or min(min(shapes)) < 3:
        text = " and ".join(str(of.shape) for of in models)
        raise ValueError(f"values are {text}; a fit a row, all brains first, then 2 groups or more")
    signs = (1, -1)[: len(models)]
    total = sum(sign * of.mean(axis=0) for sign, of in zip(signs, models, strict=True))
    if not np.isfinite(total).all():
        raise ValueError("the statistic is not finite on all, or on most, of the brains")
    value, without, g = total[0], total[1:], len(total) - 1
    brains = [(np.sqrt((g - 1) / g * np.square(without - without.mean()).sum()), g - 1)]
    of_seeds = _student((_seed_error(of[:, 0]) for of in models), 2)
    seeds = _fewest_fits(models)
    plain = _estimate(value, value + _student(brains) + of_seeds, bounds, n_brains, seeds)
    if tuple(bounds) != SHARE:
        return plain
    # At 1 no brain left out changes anything, and yet the next brain could: half a brain is added.
    near, half = (n_brains * value + 0.5) / (n_brains + 1), 0.5 / (n_brains + 1)
    draws = expit(logit(near) + _student([*brains, (half, np.inf)]) / (near * (1 - near)))
    skewed = _estimate(value, draws + of_seeds, bounds, n_brains, seeds)
    return skewed._replace(low=min(plain.low, skewed.low), high=max(plain.high, skewed.high))


def from_resamples(
    values: np.ndarray,
    resamples: np.ndarray,
    n_brains: int,
    less: tuple[np.ndarray, np.ndarray] | None = None,
    n_regions: int | None = None,
    bounds=UNBOUNDED,
) -> Estimate:
    """Mean over fits of a statistic whose resamples, of brains and of regions, are at hand.

    What resampling adds to a statistic on the whole (regions drawn twice are fewer regions) is
    taken off: only the spread of each fit's resamples about their mean counts.

    Parameters
    ----------
    values, resamples : ndarray, shape (n_seeds,) and (n_seeds, n)
        The statistic, a fit each, and the same of its resamples; draw i of every fit is of the
        same brains and regions.
    less : (values, resamples), optional
        Of another model, to be subtracted; its draws are of the same brains and regions too.
    n_brains, n_regions : int
        That were resampled; the fewer decides how much their spread is widened, as Student's t is.
    bounds
        As for `estimate`.
    """
    terms = [_checked_resamples(*term) for term in ((values, resamples), *([less] if less else []))]
    if len({drawn.shape[1] for _, drawn in terms}) > 1:
        raise ValueError("the two models have different numbers of resamples; draw as many of both")
    signs = (1, -1)[: len(terms)]
    value = sum(sign * found.mean() for sign, (found, _) in zip(signs, terms, strict=True))
    spread = sum(
        sign * (drawn - drawn.mean(axis=1, keepdims=True)).mean(axis=0)
        for sign, (_, drawn) in zip(signs, terms, strict=True)
    )
    spread = _widened(min(n_brains, n_regions or n_brains)) * spread
    # As many draws as of the seeds' error, to add the two.
    draws = value + np.resize(spread, DRAWS) + _student(_seed_error(found) for found, _ in terms)
    return _estimate(value, draws, bounds, n_brains, _fewest_fits(found for found, _ in terms))


def verdict(estimates: Iterable[Estimate], margin: float = 0.0) -> str:
    """What intervals say of a claim that each of these numbers should be positive.

    ``"holds"`` where every interval is above zero, ``"depends"`` where some are, ``"does not
    hold"`` where none is and some are below, ``"equivalent"`` where all are within (−margin,
    margin), the least effect that would matter; else ``"undecided"``: it may be true, more brains
    or fits would tell. An interval within the margin says that there is no effect, whichever side
    of zero it lies on. What holds may be smaller than the margin.
    """
    if not margin >= 0:
        raise ValueError(f"margin={margin:g} is a size: 0 or more")
    estimates = list(estimates)
    within = [-margin < found.low and found.high < margin for found in estimates]
    signs = [0 if small else found.sign for small, found in zip(within, estimates, strict=True)]
    if not signs:
        raise ValueError("there are no estimates to judge by; give at least one")
    if 1 in signs:
        return "holds" if min(signs) == 1 else "depends"
    if -1 in signs:
        return "does not hold"
    return "equivalent" if all(within) else "undecided"


def _bootstrap(scores, signs, bounds) -> Estimate:
    n_brains = scores[0].shape[1]
    by_brain = sum(sign * s.mean(axis=0) for sign, s in zip(signs, scores, strict=True))
    value = by_brain.mean()
    draws = value + _widened(n_brains) * (_resamples(n_brains) @ by_brain - value)
    draws += _student(_seed_error(s.mean(axis=1)) for s in scores)
    return _estimate(value, draws, bounds, n_brains, _fewest_fits(scores))


def _widened(n: int) -> float:
    """Resamples of n vary by n − 1 of n parts, and their quantiles are a normal's, not a t's."""
    tail = TAILS[1]
    return stats.t.ppf(tail, n - 1) / stats.norm.ppf(tail) * math.sqrt(n / (n - 1))


def _estimate(value, draws, bounds, n_brains, n_seeds) -> Estimate:
    low, high = np.quantile(draws, TAILS).clip(*bounds)
    return Estimate(float(value), float(low), float(high), n_brains, n_seeds)


def _student(errors, seed: int = 1) -> np.ndarray:
    """Draws of a sum of independent errors, each by Student's t of its degrees of freedom."""
    rng, total = np.random.default_rng(seed), np.zeros(DRAWS)
    for error, freedom in errors:
        if freedom:  # the quantiles themselves in random order: nothing left to chance but the sum
            total += error * rng.permutation(_quantiles(freedom))
    return total


@lru_cache(maxsize=64)
def _quantiles(freedom: float) -> np.ndarray:
    return stats.t.ppf((np.arange(DRAWS) + 0.5) / DRAWS, freedom)


def _fewest_fits(models) -> int:
    """Of models with several fits the fewest; 1 where there are none."""
    return min((n for n in map(len, models) if n > 1), default=1)


def _seed_error(by_seed: np.ndarray) -> tuple[float, int]:
    """Standard error of a mean over seeds and its degrees of freedom; of one seed (0, 0)."""
    n = len(by_seed)
    return (float(by_seed.std(ddof=1) / n**0.5), n - 1) if n > 1 else (0.0, 0)


@lru_cache(maxsize=8)
def _resamples(n: int) -> np.ndarray:
    """Weight of every brain in every resample, (DRAWS, n)."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=DRAWS) / n


def _checked_resamples(values, resamples) -> tuple[np.ndarray, np.ndarray]:
    values, resamples = np.asarray(values, dtype=float), np.asarray(resamples, dtype=float)
    if values.ndim != 1 or not values.size or resamples.ndim != 2 or len(resamples) != len(values):
        raise ValueError(
            f"values {values.shape} and resamples {resamples.shape} must be (n_seeds,) and "
            "(n_seeds, n)"
        )
    if not resamples.size or not np.isfinite(values).all() or not np.isfinite(resamples).all():
        raise ValueError("values or resamples are empty or not finite")
    return values, resamples


def _checked(scores, name) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim not in (1, 2) or scores.shape[-1] < 2 or not scores.size:
        raise ValueError(
            f"{name} is {scores.shape}; it must be (n_brains,) or (n_seeds, n_brains), with at "
            "least 2 brains"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} has entries that are not finite; leave those brains out")
    return np.atleast_2d(scores)
