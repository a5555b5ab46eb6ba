"""Intervals hold what they say: coverage on simulated scores, second formulas, bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from scipy import stats

from brainvae_core.metrics import (
    Estimate,
    auc,
    difference,
    estimate,
    frechet_distance,
    from_resamples,
    jackknife,
    share_difference,
    verdict,
)
from brainvae_core.metrics.intervals import from_jackknife, jackknife_values


def scores(rng, n_seeds, n_brains, seeds=1.0, brains=1.0, rest=0.3, mean=0.0):
    """Effects of seeds and of brains, and what neither explains."""
    a, b = rng.normal(0, seeds, (n_seeds, 1)), rng.normal(0, brains, n_brains)
    return mean + a + b + rng.normal(0, rest, (n_seeds, n_brains))


def resampled(x, n=200):
    """Means of fits (n_seeds, n_brains) and of their resamples, the same brains for every fit."""
    draws = np.random.default_rng(0).integers(x.shape[1], size=(n, x.shape[1]))
    return x.mean(axis=1), x[:, draws].mean(axis=2)


def jackknife_difference(statistic, fits_a, fits_b):
    """Of a − b, the same brains left out of both."""
    rows, less = (
        np.stack([jackknife_values(statistic, f) for f in fits]) for fits in (fits_a, fits_b)
    )
    return from_jackknife(rows, len(fits_a[0][0]), less)


def half(found):
    return (found.high - found.low) / 2


# ---- coverage: how often an interval holds the truth ----


def of_pairs(rng):
    brains = rng.normal(0, 2, 40)
    a = 1.0 + brains + rng.normal(0, 0.2, (3, 1)) + rng.normal(0, 0.3, (3, 40))
    return difference(a, brains + rng.normal(0, 0.3, 40))  # a model that is fitted exactly


def of_areas(true):
    apart = 2**0.5 * stats.norm.ppf(true)

    def area(a, b):  # as `auc`, without its checks
        return (a[:, None] < b).mean()

    return lambda r: jackknife(area, [(r.normal(0, 1, 20), r.normal(apart, 1, 20))], bounds=(0, 1))


def of_regions(n):
    """The number of brains is no help where regions are few."""
    return lambda r: from_resamples(*resampled(scores(r, 1, n, 0, mean=5)), 48, n_regions=n)


@pytest.mark.promise("intervals hold the truth as often as they say")
@pytest.mark.parametrize(
    ("make", "truth", "n", "least", "most"),
    [
        (lambda r: estimate(scores(r, 3, 40, mean=5.0)), 5.0, 300, 0.92, 0.995),
        *((lambda r, n=n: estimate(r.normal(1, 2, n)), 1.0, 600, 0.92, 0.98) for n in (3, 20)),
        (of_pairs, 1.0, 300, 0.92, 0.995),
        (lambda r: jackknife(np.mean, [[s] for s in scores(r, 3, 40, mean=5)]), 5, 300, 0.92, 0.99),
        *((of_areas(true), true, 300, 0.94, 1.0) for true in (0.75, 0.99)),
        (lambda r: from_resamples(*resampled(scores(r, 3, 40, 0.5)), 40), 0, 300, 0.9, 0.995),
        *((of_regions(n), 5.0, 300, 0.91, 0.995) for n in (6, 21)),
    ],
)
def test_intervals_hold_the_truth_often_enough(make, truth, n, least, most):
    found = (make(np.random.default_rng(seed)) for seed in range(n))
    assert least <= np.mean([f.low <= truth <= f.high for f in found]) <= most


@pytest.mark.promise("intervals hold the truth as often as they say")
def test_the_jackknife_holds_a_frechet_distance():
    """Truth: its expectation at this n, from many samples."""

    def pair(seed):
        rng = np.random.default_rng(seed)
        return rng.normal(0, 1, (60, 4)), rng.normal(0.5, 1.5, (60, 4))

    truth = np.mean([frechet_distance(*pair(seed)) for seed in range(10_000, 10_400)])
    found = [jackknife(frechet_distance, [pair(seed)]) for seed in range(120)]
    assert np.mean([f.low <= truth <= f.high for f in found]) >= 0.9


# ---- second formulas ----


@pytest.mark.parametrize(
    ("of", "wrap"),
    [
        (difference, np.asarray),
        (lambda a, b: jackknife_difference(np.mean, a, b), lambda x: [[row] for row in x]),
        (lambda a, b: from_resamples(*a, 30, less=b), resampled),
    ],
)
def test_the_second_models_seeds_count_as_the_firsts(of, wrap):
    exact, fits = np.zeros((1, 30)), scores(np.random.default_rng(0), 3, 30, brains=0.1)
    one, other = of(wrap(exact), wrap(fits)), of(wrap(fits), wrap(exact))
    wanted = stats.t.ppf(0.975, 2) * fits.mean(axis=1).std(ddof=1) / 3**0.5
    assert half(one) == pytest.approx(wanted, rel=0.1)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), rel=0.1)
    assert (one.n_seeds, other.n_seeds) == (3, 3)  # an exact model has one fit, and lacks none
    both = of(wrap(fits), wrap(fits[:2]))
    assert both.n_seeds == 2 and half(both) > 1.2 * half(one)
    assert of(wrap(fits), wrap(fits[::-1]))[:3] == pytest.approx(of(wrap(fits), wrap(fits))[:3])


@pytest.mark.parametrize("n", [3, 17])
def test_the_jackknife_of_a_mean_is_the_textbook_error(n):
    x = np.random.default_rng(1).normal(2, 1, n)
    found = jackknife(np.mean, [[x]])
    assert found.value == pytest.approx(x.mean()) and found[3:] == (n, 1)
    wanted = stats.t.ppf(0.975, n - 1) * x.std(ddof=1) / n**0.5
    assert half(found) == pytest.approx(wanted, rel=0.01)
    assert jackknife(np.mean, [[np.full(n, 2.0)]])[:3] == (2, 2, 2)
    sizes = []
    jackknife(lambda x: sizes.append(len(x)) or x.mean(), [[np.arange(100.0)]])
    assert sizes == [100] + 20 * [95]


def test_a_share_without_a_miss_has_an_interval():
    apart = [(np.arange(20.0), np.arange(20.0) + 30)]
    found = jackknife(auc, apart, bounds=(0, 1))
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.025 ** (1 / 20), abs=0.02)  # Clopper, Pearson (1934)
    none = jackknife(auc, [apart[0][::-1]], bounds=(0, 1))
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(1 - found.low, abs=0.01)


def test_of_one_fit_only_the_spread_of_its_resamples_counts():
    """Of −10 to 10 about their mean, 95 % lie within 9.5, and the mean's own place is forgotten."""
    found = from_resamples([7.0], [100 + np.arange(-10.0, 11)], 33)
    assert found[:1] + found[3:] == (7.0, 33, 1)
    wider = stats.t.ppf(0.975, 32) / stats.norm.ppf(0.975) * (33 / 32) ** 0.5
    assert (found.low, found.high) == pytest.approx((7 - 10 * wider, 7 + 10 * wider), abs=0.5)


def test_resamples_are_averaged_over_fits_draw_by_draw():
    """What one fit gains by a draw and the other loses leaves no spread."""
    drawn = np.random.default_rng(0).normal(size=50)
    opposed = from_resamples([2.0, 2.0], [drawn, 3 - drawn], 9)
    assert (opposed.low, opposed.high) == pytest.approx((2, 2))
    x = scores(np.random.default_rng(1), 3, 150, seeds=0.1)
    found, wanted = from_resamples(*resampled(x, 4000), 150), estimate(x)
    assert found[1:3] == pytest.approx(wanted[1:3], abs=0.06 * half(wanted))


def test_what_is_less_is_taken_off_draw_by_draw():
    rng = np.random.default_rng(2)
    brains = rng.normal(0, 2, 40)
    a, b = 1 + brains + rng.normal(0, 0.1, (1, 40)), brains + rng.normal(0, 0.1, (1, 40))
    paired, wanted = from_resamples(*resampled(a), 40, resampled(b)), difference(a, b)
    assert paired.value == pytest.approx(a.mean() - b.mean())
    assert paired[1:3] == pytest.approx(wanted[1:3], abs=0.02)
    nothing = from_resamples(*resampled(a), 40, less=resampled(a))
    assert nothing[:3] == pytest.approx((0, 0, 0), abs=1e-12)


# ---- bounds and shares ----


def test_an_interval_ends_where_values_do():
    shares = np.array([0.9, 1.0, 1.0, 0.95, 1.0])
    free, cut = estimate(shares), estimate(shares, bounds=(0, 0.98))
    assert free.high > 0.98 and cut == free._replace(high=0.98)
    seeds, drawn = [[shares], [shares - 0.4]], [np.linspace(-1, 1, 9)]
    for wide, held in (
        (jackknife(np.mean, seeds), jackknife(np.mean, seeds, bounds=(0, 1))),
        (from_resamples([0.5], drawn, 9), from_resamples([0.5], drawn, 9, bounds=(0, 1))),
    ):
        assert wide.low < 0 and wide.high > 1 and held == wide._replace(low=0.0, high=1.0)


def test_a_difference_of_shares_is_newcombes():
    """His example: 56 of 70 less 48 of 80, from Wilson's intervals, is 0.0524 to 0.3339."""

    def share(k, n, fits=1):
        return Estimate(k / n, *stats.binomtest(k, n).proportion_ci(method="wilson"), n, fits)

    found = share_difference(share(56, 70, 5), share(48, 80))
    assert found == pytest.approx((0.2, 0.0524, 0.3339, 70, 5), abs=5e-5)
    none = share_difference(share(0, 16), share(0, 16))
    assert none.value == 0 and none.low == pytest.approx(-share(0, 16).high) == -none.high


# ---- what is said of intervals ----


@pytest.mark.parametrize(
    ("numbers", "said", "sign"),
    [
        ((-0.1234, -0.2, 0.4), "−0.12 [−0.20, 0.40]", 0),
        ((-1052.7, -1270.2, -792.1), "−1,053 [−1,270, −792]", -1),
        ((0.90612, 0.8971, 0.9142), "0.9061 [0.8971, 0.9142]", 1),
        ((20.2, 0.3, 40.1), "20.2 [0.3, 40.1]", 1),
        ((7.0, 7.0, 7.0), "7 [7, 7]", 1),
        ((5.0, 2.0, 5.0), "5 [2, 5]", 1),
        ((1.0, 1.0, 1.0), "1.000 [1.000, 1.000]", 1),
        ((0.5, 1e-6, 1.0), "0.5000 [0.0000, 1.0000]", 1),
        ((-1e-9, -2e-9, 0.0), "0.0000 [0.0000, 0.0000]", 0),
    ],
)
def test_as_many_digits_are_written_as_the_interval_has(numbers, said, sign):
    assert str(Estimate(*numbers, 9, 3)) == said and Estimate(*numbers, 9, 3).sign == sign


def test_a_claim_is_judged_by_all_its_intervals():
    above, below, open_ = (Estimate(0, low, low + 2, 9, 3) for low in (1, -4, -1))
    assert verdict([above]) == verdict([above, above]) == "holds"
    assert verdict([below, below]) == verdict([open_, below]) == "does not hold"
    assert verdict([open_]) == verdict([open_, open_]) == "undecided"
    assert verdict([above, open_]) == verdict([above, below]) == "depends"


@given(st.floats(-3, 3), st.floats(0.01, 3), st.floats(0.1, 2))
def test_an_effect_smaller_than_would_matter_is_none(middle, half, margin):
    found = Estimate(middle, middle - half, middle + half, 9, 3)
    within = abs(middle) + half < margin
    expected = verdict([found]) if not within else "equivalent"
    assert verdict([found], margin) == verdict([found] * 2, margin) == expected
    tiny, clear = (Estimate(x, x - 0.01, x + 0.01, 9, 3) for x in (0.02, 2.5))
    assert verdict([tiny, clear], margin=0.1) == "depends"
    assert verdict([tiny]) == verdict([tiny], margin=0.03) == "holds"


def test_nonsense_is_refused_by_name():
    assert estimate([1.0, 2.0])[::3] == (1.5, 2)  # the fewest brains
    x, shapes = np.zeros((3, 5)), r"values \(.*\) and resamples \(.*must be \(n_seeds,\)"
    refused(
        [
            (r"scores is \(1,\).*at least 2 brains", estimate, [1.0]),
            ("scores has entries that are not finite", estimate, [1.0, np.nan]),
            ("scores_a has 5 brains and scores_b 4", difference, x, x[:, :4]),
            (r"have \[2\] brains; .*at least 3", jackknife, np.mean, [[np.zeros(2)]]),
            (r"have \[4, 5\] brains", jackknife, np.dot, [[np.zeros(5), np.zeros(4)]]),
            ("the statistic is not finite", jackknife, np.mean, [[np.full(5, np.nan)]]),
            *((shapes, from_resamples, v, d, 5) for v, d in (([1.0], x), (x, x), ([], x[:0]))),
            ("are empty or not finite", from_resamples, x[:, 0], x * np.nan, 5),
            ("draw as many of both", from_resamples, x[:, 0], x, 5, (x[:, 0], x[:, :4])),
            (r"\(3, 5\) and \(3, 4\); a fit a row", from_jackknife, x, 9, x[:, :4]),
            (r"\(3, 2\); .* 2 groups or more", from_jackknife, x[:, :2], 9),
            ("no estimates", verdict, []),
            ("margin=-1 is a size", verdict, [], -1.0),
        ]
    )
