"""Intervals hold what they say: coverage on simulated scores, second formulas, bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from brainvae_core.metrics import (
    Estimate,
    auc,
    difference,
    differences,
    estimate,
    estimates,
    frechet_distance,
    from_resamples,
    in_each,
    jackknife,
    jackknife_difference,
    jackknives,
    picked,
    verdict,
)


def scores(rng, n_seeds, n_brains, seeds=1.0, brains=1.0, rest=0.3, mean=0.0):
    """Effects of seeds and of brains, and what neither explains."""
    a, b = rng.normal(0, seeds, (n_seeds, 1)), rng.normal(0, brains, n_brains)
    return mean + a + b + rng.normal(0, rest, (n_seeds, n_brains))


def coverage(make, truth, n=300):
    inside = 0
    for seed in range(n):
        found = make(np.random.default_rng(seed))
        inside += found.low <= truth <= found.high
    return inside / n


def test_one_fit_has_the_interval_of_its_brains():
    x = np.random.default_rng(0).normal(3, 2, 150)
    found = estimate(x)
    half = stats.norm.ppf(0.975) * x.std() / 150**0.5
    assert found.value == pytest.approx(x.mean())
    assert (found.n_brains, found.n_seeds) == (150, 1)
    assert found.low == pytest.approx(x.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(x.mean() + half, abs=0.05 * half)


@pytest.mark.parametrize(("seeds", "brains"), [(1.0, 1.0), (0.3, 2.0), (0.1, 0.5)])
def test_three_seeds_and_forty_brains_hold_the_truth_often_enough(seeds, brains):
    def make(rng):
        return estimate(scores(rng, 3, 40, seeds, brains, mean=5.0))

    assert 0.92 <= coverage(make, 5.0) <= 0.995


def test_a_bootstrap_of_three_seeds_alone_would_not():
    def naive(rng):
        by_seed = scores(rng, 3, 40, 1.0, 0.1).mean(axis=1)
        low, high = np.quantile(rng.choice(by_seed, (500, 3)).mean(axis=1), [0.025, 0.975])
        return Estimate(0, low, high, 40, 3)

    assert coverage(naive, 0.0) < 0.85


def test_differences_hold_the_truth_often_enough_and_are_narrower_for_pairs():
    def make(rng):
        brains = rng.normal(0, 2, 40)
        a = 1.0 + brains + rng.normal(0, 0.2, (3, 1)) + rng.normal(0, 0.3, (3, 40))
        b = brains + rng.normal(0, 0.3, 40)  # a model that is fitted exactly: one fit
        return difference(a, b)

    assert 0.92 <= coverage(make, 1.0) <= 0.995
    rng = np.random.default_rng(0)
    brains = rng.normal(0, 2, 40)
    a, b = brains + rng.normal(0, 0.1, 40), brains + rng.normal(0, 0.1, 40)
    paired, alone = difference(a, b), estimate(a)
    assert paired.high - paired.low < (alone.high - alone.low) / 5


@pytest.mark.parametrize(
    "difference_of", [difference, lambda a, b: jackknife_difference(np.mean, a, b)]
)
def test_the_second_models_seeds_count_as_the_firsts(difference_of):
    exact, fits = np.zeros((1, 30)), scores(np.random.default_rng(0), 3, 30, brains=0.1)
    wrap = (lambda x: x) if difference_of is difference else (lambda x: [[row] for row in x])
    one, other = difference_of(wrap(exact), wrap(fits)), difference_of(wrap(fits), wrap(exact))
    half = stats.t.ppf(0.975, 2) * fits.mean(axis=1).std(ddof=1) / 3**0.5
    assert (one.high - one.low) / 2 == pytest.approx(half, rel=0.1)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), rel=0.1)


@pytest.mark.parametrize("n", [3, 4, 8, 20])
def test_few_brains_hold_the_truth_often_enough(n):
    assert 0.92 <= coverage(lambda rng: estimate(rng.normal(1, 2, n)), 1.0, 600) <= 0.98


def test_seeds_of_two_models_are_not_paired():
    rng = np.random.default_rng(3)
    a, b = scores(rng, 3, 30), scores(rng, 3, 30)
    found, turned = difference(a, b), difference(a, b[[2, 0, 1]])
    assert found == turned
    assert difference(a, a).value == 0 and difference(a, a).sign == 0


def test_the_sign_is_that_of_an_interval_beside_zero():
    assert Estimate(1.0, 0.2, 1.8, 9, 3).sign == 1
    assert Estimate(-1.0, -1.8, -0.2, 9, 3).sign == -1
    assert Estimate(0.1, -0.2, 0.4, 9, 3).sign == 0


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((-0.1234, -0.2, 0.4), "−0.12 [−0.20, 0.40]"),
        ((-1052.7, -1270.2, -792.1), "−1,053 [−1,270, −792]"),
        ((0.90612, 0.8971, 0.9142), "0.9061 [0.8971, 0.9142]"),
        ((7.0, 7.0, 7.0), "7.000 [7.000, 7.000]"),
        ((-1e-9, -2e-9, 0.0), "0.0000 [0.0000, 0.0000]"),
    ],
)
def test_as_many_digits_are_written_as_the_interval_has(numbers, said):
    assert str(Estimate(*numbers, 9, 3)) == said


@pytest.mark.parametrize("n", [17, 100])
def test_the_jackknife_of_a_mean_is_the_textbook_error(n):
    x = np.random.default_rng(1).normal(2, 1, n)
    found = jackknife(np.mean, [[x]])
    assert found.value == pytest.approx(x.mean())
    assert (found.n_brains, found.n_seeds) == (n, 1)
    if n == 17:  # every brain by itself: exact
        half = stats.t.ppf(0.975, 16) * x.std(ddof=1) / 17**0.5
        assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.01)


def test_groups_of_brains_give_the_textbook_error_on_average():
    def halves(rng):
        x = rng.normal(2, 1, 100)
        found = jackknife(np.mean, [[x]])
        return (found.high - found.low) / 2 / (stats.t.ppf(0.975, 19) * x.std(ddof=1) / 10)

    ratios = [halves(np.random.default_rng(seed)) for seed in range(200)]
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("true", [0.75, 0.96, 0.99])
def test_areas_near_one_hold_the_truth_often_enough(true):
    apart = 2**0.5 * stats.norm.ppf(true)

    def make(rng):
        return jackknife(auc, [(rng.normal(0, 1, 20), rng.normal(apart, 1, 20))], bounds=(0, 1))

    assert coverage(make, true) >= 0.94


def test_a_share_without_a_miss_has_an_interval():
    apart = [(np.arange(20.0), np.arange(20.0) + 30)]
    found = jackknife(auc, apart, bounds=(0, 1))
    exact = 0.025 ** (1 / 20)  # Clopper, Pearson (1934): 20 of 20
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(exact, abs=0.02)
    none = jackknife(auc, [apart[0][::-1]], bounds=(0, 1))
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(1 - found.low, abs=0.01)


def test_the_jackknife_adds_the_seeds():
    x = scores(np.random.default_rng(2), 3, 40, seeds=2.0, brains=0.1)
    alone, seeds = jackknife(np.mean, [[x[0]]]), jackknife(np.mean, [[row] for row in x])
    assert seeds.n_seeds == 3
    assert seeds.high - seeds.low > 3 * (alone.high - alone.low)

    def make(rng):
        return jackknife(np.mean, [[row] for row in scores(rng, 3, 40, 1.0, 1.0, mean=5.0)])

    assert 0.92 <= coverage(make, 5.0) <= 0.99


def test_the_jackknife_holds_a_frechet_distance():
    """Truth: its expectation at this n, from many samples."""

    def pair(rng):
        return rng.normal(0, 1, (60, 4)), rng.normal(0.5, 1.5, (60, 4))

    many = (pair(np.random.default_rng(seed)) for seed in range(10_000, 10_400))
    truth = np.mean([frechet_distance(*samples) for samples in many])

    def make(rng):
        return jackknife(frechet_distance, [pair(rng)])

    assert 0.9 <= coverage(make, truth, 120) <= 1.0


def test_a_difference_of_distances_is_of_the_same_brains():
    a = np.random.default_rng(0).normal(0, 1, (60, 4))
    near, far = [[a, a + 0.1]], [[a, a + 0.5]]
    found = jackknife_difference(frechet_distance, far, near)
    assert found.value == pytest.approx(4 * (0.25 - 0.01), rel=1e-9)
    assert found.high - found.low < 1e-9 and found.sign == 1
    three = jackknife_difference(frechet_distance, far * 3, near)
    assert three.value == pytest.approx(found.value) and three.n_seeds == 1


@given(st.integers(0, 1000), st.floats(-5, 5), st.floats(0.1, 10))
def test_intervals_move_and_stretch_with_the_scores(seed, shift, scale):
    x = scores(np.random.default_rng(seed), 3, 12)
    plain, moved = estimate(x), estimate(scale * x + shift)
    for now, before in zip(moved[:3], plain[:3], strict=True):
        assert now == pytest.approx(scale * before + shift, abs=1e-9 * scale + 1e-9)
    assert plain.low <= plain.value <= plain.high


# ---- resamples at hand ----


def resampled(x, n=200, seed=0):
    """Means of fits (n_seeds, n_brains) and of their resamples, the same brains for every fit."""
    draws = np.random.default_rng(seed).integers(x.shape[1], size=(n, x.shape[1]))
    return x.mean(axis=1), x[:, draws].mean(axis=2)


def test_of_one_fit_only_the_spread_of_its_resamples_counts():
    """Of −10 to 10 about their mean, 95 % lie within 9.5, and the mean's own place is forgotten."""
    found = from_resamples([7.0], [100 + np.arange(-10.0, 11)], 33)
    assert found[:1] + found[3:] == (7.0, 33, 1)
    wider = stats.t.ppf(0.975, 32) / stats.norm.ppf(0.975) * (33 / 32) ** 0.5
    assert (found.low, found.high) == pytest.approx((7 - 10 * wider, 7 + 10 * wider), abs=0.5)
    half = from_resamples([7.0], [np.arange(-10.0, 11)], 33, level=0.5)
    assert (half.low, half.high) == pytest.approx((2, 12), abs=0.5)
    lopsided = from_resamples([0.0], [[0, 0, 0, 0, 10]], 5, level=0.5)
    wider = stats.t.ppf(0.75, 4) / stats.norm.ppf(0.75) * (5 / 4) ** 0.5  # for so few
    assert (lopsided.low, lopsided.high) == pytest.approx((-2 * wider, -2 * wider))


def test_fits_whose_resamples_do_not_vary_have_students_interval():
    values = np.array([1.0, 2, 4, 5, 8])
    found = from_resamples(values, np.zeros((5, 3)), 9)
    half = stats.t.ppf(0.975, 4) * values.std(ddof=1) / 5**0.5
    assert (found.value, found.n_brains, found.n_seeds) == (4, 9, 5)
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half), rel=0.01)


def test_resamples_are_averaged_over_fits_draw_by_draw():
    """What one fit gains by a draw and the other loses leaves no spread."""
    drawn = np.random.default_rng(0).normal(size=50)
    opposed = from_resamples([2.0, 2.0], [drawn, 3 - drawn], 9)
    assert (opposed.low, opposed.high) == pytest.approx((2, 2))
    alike, alone = from_resamples([2.0, 2.0], [drawn, drawn], 9), from_resamples([2.0], [drawn], 9)
    assert alike[:3] == pytest.approx(alone[:3])


@given(
    st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    st.lists(st.floats(-100, 100), min_size=3, max_size=3),
)
def test_where_the_resamples_lie_on_the_whole_means_nothing(shifts, moved):
    values, drawn = resampled(scores(np.random.default_rng(0), 3, 20))
    found = from_resamples(values, drawn, 20)
    elsewhere = from_resamples(values, drawn + np.array(shifts)[:, None], 20)
    assert elsewhere[:3] == pytest.approx(found[:3], abs=1e-9)
    together = from_resamples(values + moved[0], drawn, 20)
    assert together[:3] == pytest.approx([x + moved[0] for x in found[:3]], abs=1e-9)


def test_resamples_of_means_give_what_estimate_gives():
    x = scores(np.random.default_rng(1), 3, 150, seeds=0.1)
    found, wanted = from_resamples(*resampled(x, 4000), 150), estimate(x)
    half = (wanted.high - wanted.low) / 2
    assert found.value == pytest.approx(wanted.value)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.06 * half)
    assert (found.n_brains, found.n_seeds) == (150, 3)


def test_what_is_less_is_taken_off_draw_by_draw():
    rng = np.random.default_rng(2)
    brains = rng.normal(0, 2, 40)
    a, b = 1 + brains + rng.normal(0, 0.1, (1, 40)), brains + rng.normal(0, 0.1, (1, 40))
    paired = from_resamples(*resampled(a), 40, less=resampled(b))
    assert paired.value == pytest.approx(a.mean() - b.mean())
    wanted = difference(a, b)
    assert (paired.low, paired.high) == pytest.approx((wanted.low, wanted.high), abs=0.02)
    unpaired = from_resamples(*resampled(a), 40, less=resampled(b, seed=1))
    assert unpaired.high - unpaired.low > 5 * (paired.high - paired.low)
    turned = from_resamples(*resampled(b), 40, less=resampled(a))
    assert turned[:3] == pytest.approx((-paired.value, -paired.high, -paired.low), abs=1e-9)
    nothing = from_resamples(*resampled(a), 40, less=resampled(a))
    assert (nothing.value, nothing.low, nothing.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_the_seeds_of_what_is_less_count_too():
    one, fits = np.zeros((1, 30)), scores(np.random.default_rng(0), 3, 30, brains=0.1)
    found = from_resamples(*resampled(one), 30, less=resampled(fits))
    other = from_resamples(*resampled(fits), 30, less=resampled(one))
    assert (found.n_seeds, other.n_seeds) == (1, 1)
    half = stats.t.ppf(0.975, 2) * fits.mean(axis=1).std(ddof=1) / 3**0.5
    for each in (found, other):
        assert (each.high - each.low) / 2 == pytest.approx(half, rel=0.1)
    both = from_resamples(*resampled(fits), 30, less=resampled(fits[:2]))
    assert both.n_seeds == 2 and both.high - both.low > 1.2 * (found.high - found.low)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_intervals_of_resamples_hold_the_truth_often_enough(n_seeds):
    seeds = 0.0 if n_seeds == 1 else 0.5

    def make(rng):
        return from_resamples(*resampled(scores(rng, n_seeds, 40, seeds, 1.0, mean=5.0)), 40)

    def less(rng):
        x = scores(rng, n_seeds + 3, 40, seeds, 1.0, mean=5.0)
        return from_resamples(*resampled(x[:n_seeds]), 40, less=resampled(x[n_seeds:] - 2))

    assert 0.9 <= coverage(make, 5.0) <= 0.995
    assert 0.9 <= coverage(less, 2.0) <= 0.999


@pytest.mark.parametrize("n_regions", [6, 8, 21])
def test_intervals_over_few_regions_hold_the_truth_often_enough(n_regions):
    """200 draws, as the chapters have; the number of brains is no help where regions are few."""

    def make(rng):
        values, drawn = resampled(scores(rng, 1, n_regions, 0.0, 1.0, mean=5.0), 200)
        return from_resamples(values, drawn, 48, n_regions=n_regions)

    assert 0.91 <= coverage(make, 5.0) <= 0.995


def test_a_wider_level_is_a_wider_interval():
    x = scores(np.random.default_rng(0), 3, 30)
    assert estimate(x, 0.5).high < estimate(x, 0.95).high < estimate(x, 0.99).high


def test_tables_are_judged_entry_by_entry():
    rng = np.random.default_rng(0)
    table = {"VAE": {2: [rng.random(9), rng.random(9)], 4: [rng.random(9)]}, "PCA": rng.random(9)}
    found = estimates(table, bounds=(0, 1))
    assert found["VAE"][2] == estimate(table["VAE"][2], bounds=(0, 1))
    assert found["VAE"][4].n_seeds == 1 and found["PCA"] == estimate(table["PCA"])
    fits = {"VAE": {2: [[rng.random(9)], [rng.random(9)]]}}
    wanted = jackknife(np.mean, fits["VAE"][2])
    assert jackknives(np.mean, fits) == {"VAE": {2: wanted}}
    assert in_each({"a": {"b": 2}, "c": 3}, str) == {"a": {"b": "2"}, "c": "3"}


def test_one_score_is_picked_of_every_fit():
    fits = [{"CW-SSIM": 1, "PSNR": 2}, {"CW-SSIM": 3, "PSNR": 4}]
    assert picked({"VAE": {8: fits}, "PCA": fits[:1]}, "PSNR") == {"VAE": {8: [2, 4]}, "PCA": [2]}
    assert picked({"VAE": [Estimate(1, 0, 2, 9, 3)]}, "high") == {"VAE": [2]}


def test_pairs_that_are_there_are_compared_by_name():
    rng = np.random.default_rng(0)
    scores = {"VAE": rng.random((3, 9)), "PCA": rng.random(9)}
    found = differences(scores, [("VAE", "PCA"), ("VAE", "NMF"), ("PCA", "VAE")])
    assert list(found) == ["VAE − PCA", "PCA − VAE"]
    assert found["VAE − PCA"] == difference(scores["VAE"], scores["PCA"])


def test_a_claim_is_judged_by_all_its_intervals():
    above, below, open_ = (Estimate(0, low, low + 2, 9, 3) for low in (1, -4, -1))
    assert verdict([above]) == verdict([above, above]) == "holds"
    assert verdict([below, below]) == verdict([open_, below]) == "does not hold"
    assert verdict([open_]) == verdict([open_, open_]) == "not shown"
    assert verdict([above, open_]) == verdict([above, below]) == "depends"
    with pytest.raises(ValueError, match="no estimates"):
        verdict([])


def test_an_interval_ends_where_values_do():
    shares = np.array([0.9, 1.0, 1.0, 0.95, 1.0])
    free, cut = estimate(shares), estimate(shares, bounds=(0, 0.98))
    assert free.high > 0.98 and cut == free._replace(high=0.98)
    seeds = [[shares], [shares - 0.4]]
    wide = jackknife(np.mean, seeds)
    assert wide.low < 0 and wide.high > 1
    held = jackknife(np.mean, seeds, bounds=(0, 1))
    assert held == wide._replace(low=0.0, high=1.0)
    drawn = [np.linspace(-1, 1, 9)]
    wide, held = (from_resamples([0.5], drawn, 9, bounds=b) for b in ((-9, 9), (0, 1)))
    assert wide.low < 0 and wide.high > 1 and held == wide._replace(low=0.0, high=1.0)


def test_nonsense_is_refused_by_name():
    x = np.zeros((3, 5))
    with pytest.raises(ValueError, match=r"scores is \(1,\).*at least 2 brains"):
        estimate([1.0])
    with pytest.raises(ValueError, match="scores has entries that are not finite"):
        estimate([1.0, np.nan])
    with pytest.raises(ValueError, match="scores_a has 5 brains and scores_b 4"):
        difference(x, x[:, :4])
    with pytest.raises(ValueError, match="level=95 must lie"):
        estimate(x, level=95)
    with pytest.raises(ValueError, match=r"the arrays have \[2\] brains; .*at least 3"):
        jackknife(np.mean, [[np.zeros(2)]])
    with pytest.raises(ValueError, match=r"the arrays have \[4, 5\] brains"):
        jackknife(frechet_distance, [[np.zeros((5, 2)), np.zeros((4, 2))]])
    with pytest.raises(ValueError, match="the statistic is not finite"):
        jackknife(np.mean, [[np.full(5, np.nan)]])
    for values, drawn in (([1.0], x), (x, x), ([], x[:0]), (1.0, x), ([1.0], [1.0])):
        with pytest.raises(
            ValueError, match=r"values \(.*\) and resamples \(.*must be \(n_seeds,\)"
        ):
            from_resamples(values, drawn, 5)
    for values, drawn in ((x[:, 0], x * np.nan), (x[:, 0] + np.inf, x), ([1.0], [[]])):
        with pytest.raises(ValueError, match="values or resamples are empty or not finite"):
            from_resamples(values, drawn, 5)
    with pytest.raises(ValueError, match=r"values \(2,\) and resamples \(3, 5\)"):
        from_resamples(x[:, 0], x, 5, less=(x[:2, 0], x))
    with pytest.raises(ValueError, match="different numbers of resamples; draw as many of both"):
        from_resamples(x[:, 0], x, 5, less=(x[:, 0], x[:, :4]))
    with pytest.raises(ValueError, match="level=0 must lie"):
        from_resamples(x[:, 0], x, 5, level=0)
