"""Groups compared: what other code says, what every order of brains says, and false alarms."""

import itertools
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from scipy import stats
from statsmodels.regression.linear_model import OLS

from brainvae_core.metrics import design_of, group_differences, groups

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
COHORTS = 1000 if NIGHTLY else 100
P_VALUES = ["p", "p_permuted", "p_family", "q"]


def two_groups(n_wt, n_ko):
    return pd.DataFrame({"genotype": ["WT"] * n_wt + ["KO"] * n_ko})


def a_lab(rng, n_wt, n_ko):
    """Two groups with a confounded sex and age, and a batch of three."""
    brains = two_groups(n_wt, n_ko)
    ko = (brains["genotype"] == "KO").to_numpy()
    brains["sex"] = np.where(rng.random(len(ko)) < np.where(ko, 0.7, 0.4), "F", "M")
    brains["age"] = 60 + 5 * ko + 5 * rng.standard_normal(len(ko))
    brains["batch"] = [f"B{1 + i % 3}" for i in range(len(ko))]
    return brains


# ---- the numbers, by other people's code ----


@pytest.mark.promise("metrics agree with second implementations")
@given(seed=st.integers(0, 2**16), n_wt=st.integers(3, 9), n_ko=st.integers(3, 9))
def test_two_groups_are_welchs_test(seed, n_wt, n_ko):
    rng = np.random.default_rng(seed)
    wt, ko = rng.standard_normal((n_wt, 3)), 4 * rng.standard_normal((n_ko, 3))
    design = design_of(two_groups(n_wt, n_ko), "genotype")
    found = group_differences(np.vstack([wt, ko]), design, n_permutations=0)
    welch = stats.ttest_ind(ko, wt, equal_var=False)
    np.testing.assert_allclose(found["value"], ko.mean(axis=0) - wt.mean(axis=0))
    np.testing.assert_allclose(found["statistic"], welch.statistic)
    np.testing.assert_allclose(found["p"], welch.pvalue)
    np.testing.assert_allclose(found[["low", "high"]].T, welch.confidence_interval(0.95))
    pooled = np.sqrt(
        ((n_wt - 1) * wt.var(axis=0, ddof=1) + (n_ko - 1) * ko.var(axis=0, ddof=1))
        / (n_wt + n_ko - 2)
    )
    hedges = (ko.mean(axis=0) - wt.mean(axis=0)) / pooled * (1 - 3 / (4 * (n_wt + n_ko) - 9))
    np.testing.assert_allclose(found["effect"], hedges, rtol=0.01)  # his own approximation
    np.testing.assert_allclose(found["q"], stats.false_discovery_control(found["p"]))


@pytest.mark.promise("metrics agree with second implementations")
@given(seed=st.integers(0, 2**16), term=st.sampled_from(["genotype", "age", "batch"]))
def test_adjusted_differences_slopes_and_several_groups_are_those_of_statsmodels(seed, term):
    rng = np.random.default_rng(seed)
    brains, values = a_lab(rng, 14, 11), rng.standard_normal((25, 2))
    design = design_of(brains, term, [x for x in ("genotype", "sex", "age", "batch") if x != term])
    found = group_differences(values, design, n_permutations=0)
    for measure, row in zip(values.T, found.to_dict("records"), strict=True):
        if term == "batch":
            answer = OLS(measure, design.matrix).fit().f_test(np.eye(6)[design.tested])
            np.testing.assert_allclose([row["statistic"], row["p"]], [answer.fvalue, answer.pvalue])
            assert np.isnan([row["value"], row["low"], row["high"]]).all()
            explained = answer.fvalue * 2 / (answer.fvalue * 2 + 19)
            np.testing.assert_allclose(row["effect"], explained)
            ends = [row["effect_low"], row["effect_high"]]
            tails = [stats.ncf.cdf(row["statistic"], 2, 19, 25 * x / (1 - x)) for x in ends]
            assert tails[1] == pytest.approx(0.025, abs=1e-3) or ends[1] == row["effect"]
            assert tails[0] == pytest.approx(0.975, abs=1e-3) or ends[0] == 0
            continue
        fit, (place,) = OLS(measure, design.matrix).fit(), np.flatnonzero(design.tested)
        robust = fit.get_robustcov_results("HC2")
        wanted = [fit.params[place], robust.tvalues[place]]
        np.testing.assert_allclose([row["value"], row["statistic"]], wanted)
        step = design.matrix[:, place].std(ddof=1) if term == "age" else 1
        plain = row["value"] * step / np.sqrt(fit.mse_resid)
        np.testing.assert_allclose(row["effect"], plain * (1 - 3 / (4 * 19 - 1)), rtol=0.001)


def bell_mccaffrey(design, measure):
    """Degrees of freedom (Bell, McCaffrey 2002) a brain at a time, each group with its spread."""
    x, of, n = design.matrix, design.tested.astype(float), len(design.matrix)
    bread = np.linalg.inv(x.T @ x)
    maker, pull = np.eye(n) - x @ bread @ x.T, x @ bread @ of
    each = np.array([maker[i] * pull[i] / np.sqrt(maker[i, i]) for i in range(n)])
    sides, spreads = x[:, design.tested][:, 0], np.ones(n)
    for side in set(sides) if len(set(sides)) == 2 else ():
        here = sides == side
        spreads[here] = np.square(each @ measure)[here].sum() / np.square(pull)[here].sum()
    moments = np.linalg.eigvalsh((each * spreads) @ each.T)
    return moments.sum() ** 2 / np.square(moments).sum()


def as_normal(t, freedom):
    """Square of a t on a normal's scale (Wallace 1959)."""
    return freedom * np.log1p(t**2 / freedom) * ((8 * freedom + 1) / (8 * freedom + 3)) ** 2


@given(seed=st.integers(0, 2**16))
def test_degrees_of_freedom_and_intervals_are_what_their_definitions_say(seed):
    """The noncentral t is put back in."""
    rng = np.random.default_rng(seed)
    brains, values = a_lab(rng, 9, 6), rng.standard_normal((15, 1))
    design = design_of(brains, "genotype", ["age"])
    (row,) = group_differences(values, design, n_permutations=0).to_dict("records")
    freedom = bell_mccaffrey(design, values[:, 0])
    t = row["statistic"]
    np.testing.assert_allclose(row["p"], 2 * stats.t.sf(abs(t), freedom))
    error = row["value"] / t
    half = stats.t.ppf(0.975, freedom) * error
    np.testing.assert_allclose(
        [row["low"], row["high"]], row["value"] + np.array([-1, 1]) * abs(half)
    )
    unit = row["effect"] / t
    for end, tail in (("effect_low", 0.975), ("effect_high", 0.025)):
        assert stats.nct.cdf(t, freedom, row[end] / unit) == pytest.approx(tail, abs=1e-3)
    # One answer of interval, effect and p: all hold 0 or none does.
    holds = {
        row["p"] > 0.05,
        row["low"] < 0 < row["high"],
        row["effect_low"] < 0 < row["effect_high"],
    }
    assert len(holds) == 1


# ---- every order of brains ----


def test_few_brains_are_permuted_in_every_distinct_order():
    values, (n_wt, n_ko) = np.random.default_rng(0).standard_normal((9, 3)) + 0.5, (4, 5)
    values[n_wt:, 0] += 3
    values[:, 2] = 0.1 * (2 * values[:, 2]).round()  # orders that differ by rounding alone
    found = group_differences(values, design_of(two_groups(n_wt, n_ko), "genotype"))

    def statistics(rows):
        welch = stats.ttest_ind(values[rows], values[np.setdiff1d(range(9), rows)], equal_var=False)
        return as_normal(welch.statistic, welch.df)

    every = np.array([statistics(list(rows)) for rows in itertools.combinations(range(9), n_wt)])
    seen = every[0] - 1e-9
    np.testing.assert_allclose(found["p_permuted"], (every >= seen).mean(axis=0))
    family = (every.max(axis=1)[:, np.newaxis] >= seen).mean(axis=0)
    np.testing.assert_allclose(found["p_family"], family)
    assert found["p_permuted"][0] < 0.05 < found["p_family"].max()
    again = group_differences(values, design_of(two_groups(n_wt, n_ko), "genotype"), seed=7)
    pd.testing.assert_frame_equal(found, again)  # nothing left to chance


@pytest.mark.parametrize("term", ["genotype", "age", "line"])
def test_residuals_are_permuted_as_freedman_and_lane_did(term):
    """Every one of 720 orders of six brains, each fitted anew."""
    rng = np.random.default_rng(1)
    brains = pd.DataFrame({"age": rng.standard_normal(6), "dose": rng.standard_normal(6)})
    brains = brains.assign(genotype=["WT", "KO"] * 3, line=[*"AABBCC"])
    values, design = rng.standard_normal((6, 2)), design_of(brains, term, ["dose"])
    if term == "line":
        values = values + np.repeat([0, 1, 2], 2)[:, np.newaxis]
    found = group_differences(values, design)
    x, rest = design.matrix, design.matrix[:, ~design.tested]
    fitted = rest @ np.linalg.lstsq(rest, values, rcond=None)[0]

    bread, orders = np.linalg.inv(x.T @ x), np.array(list(itertools.permutations(range(6))))

    def statistics(measure, fit):
        every = fit + (measure - fit)[orders]  # (720, 6)
        shares = every @ x @ bread
        left = every - shares @ x.T
        if term == "line":
            without = every - every @ rest @ np.linalg.inv(rest.T @ rest) @ rest.T
            return ((without**2).sum(axis=1) / (left**2).sum(axis=1) - 1) * 2 / 2
        errors = np.square(left) / (1 - np.diag(x @ bread @ x.T))
        t = shares[:, 1] / np.sqrt(errors @ np.square(x @ bread @ design.tested))
        return as_normal(t, np.array([bell_mccaffrey(design, one) for one in every]))

    every = np.array([statistics(*pair) for pair in zip(values.T, fitted.T, strict=True)]).T
    seen = every[0] * (1 - 1e-9)
    np.testing.assert_allclose(found["p_permuted"], (every >= seen).mean(axis=0), atol=1e-12)
    family = (every.max(axis=1)[:, np.newaxis] >= seen).mean(axis=0)
    np.testing.assert_allclose(found["p_family"], family, atol=1e-12)


@pytest.mark.parametrize("term", ["genotype", "batch"])
def test_pixels_taken_in_pieces_are_those_taken_at_once(monkeypatch, term):
    rng = np.random.default_rng(0)
    values, design = rng.standard_normal((24, 301)), design_of(a_lab(rng, 12, 12), term, ["age"])
    whole = group_differences(values, design, n_permutations=199)
    monkeypatch.setattr(groups, "CHUNK", 200 * 70)
    pieces = group_differences(values, design, n_permutations=199)
    pd.testing.assert_frame_equal(whole, pieces)


# ---- nothing, everything, and no chance ----


@pytest.mark.parametrize("term", ["genotype", "batch"])
def test_measures_that_do_not_vary_and_those_that_tell_all_warn_of_nothing(term):
    rng = np.random.default_rng(0)
    brains = a_lab(rng, 12, 12)
    design = design_of(brains, term, ["age"])
    told = design.matrix[:, design.tested] @ np.arange(1, 1 + design.tested.sum())
    values = np.column_stack(
        [np.zeros(24), np.full(24, 0.3), brains["age"] / 7, told, rng.random(24)]
    )
    found = group_differences(pd.DataFrame(values, columns=[*"abcde"]), design)
    assert found["measure"].tolist() == [*"abcde"]
    assert (found.loc[:2, P_VALUES] == 1).all(axis=None)
    assert found.loc[:2, ["statistic", "effect", "value"]].isna().all(axis=None)
    assert np.isinf(found["statistic"][3]) and found["p"][3] == 0
    assert found["p_family"][3] == found["p_permuted"][3] <= 2 / 2000
    alone = group_differences(values[:, [4]], design)
    np.testing.assert_allclose(alone[P_VALUES[:2]], found.loc[[4], P_VALUES[:2]])
    nothing = group_differences(values[:, :2], design, n_permutations=0)
    assert (nothing[["p", "q"]] == 1).all(axis=None)


# Wild types, knockouts, covariates, how often the knockouts' spread, and whether skewed.
NULLS = {
    "12 and 12": (12, 12, [], 1, False),
    "4 and 4, in every order": (4, 4, [], 1, False),
    "24 and 8": (24, 8, [], 1, False),
    "12 and 12, skewed": (12, 12, [], 1, True),
    "confounded with sex and age": (14, 10, ["sex", "age"], 1, False),
    "confounded and skewed": (14, 10, ["sex", "age"], 1, True),
    "24, and 8 that vary threefold": (24, 8, [], 3, False),
    "24, and 8 that vary a third": (24, 8, [], 1 / 3, False),
    "confounded, the fewer vary threefold": (20, 10, ["sex", "age"], 3, False),
}


def within_chance(found, n=COHORTS, share=0.05):
    """Whether so many false alarms of n are no more and no fewer than a fair coin's."""
    low, high = stats.binom.interval(0.999, n, share)
    return low <= found <= high


@pytest.mark.promise("where groups do not differ, alarms are as many as told")
@pytest.mark.parametrize("case", NULLS.values(), ids=NULLS)
def test_without_a_difference_alarms_are_as_many_as_told(case):
    n_wt, n_ko, covariates, times, is_skewed = case
    rng, found, n = np.random.default_rng(0), [], n_wt + n_ko
    for seed in range(COHORTS // 50):  # designs, of 50 cohorts each
        brains = a_lab(rng, n_wt, n_ko)
        values = rng.standard_normal((n, 50)) * np.where(np.arange(n) < n_wt, 1, times)[:, None]
        values = np.exp(0.8 * values) if is_skewed else values
        design = design_of(brains, "genotype", covariates)
        found.append(group_differences(values, design, n_permutations=199, seed=seed))
    found = pd.concat(found)
    share = 0.05 if n > 8 else 2 / 70  # the largest below 0.05 that 70 orders have
    assert within_chance((found["p_permuted"] <= 0.05).sum(), share=share)
    alarms = (found["p"] <= 0.05).sum()
    assert alarms <= stats.binom.isf(0.0005, COHORTS, 0.05)
    assert is_skewed or within_chance(alarms)
    assert (((found["low"] > 0) | (found["high"] < 0)) == (found["p"] < 0.05)).all()


@pytest.mark.promise("where groups do not differ, alarms are as many as told")
@pytest.mark.parametrize("covariates", [[], ["sex", "age"]], ids=["alone", "adjusted"])
def test_families_of_measures_raise_as_many_alarms_as_told(covariates):
    rng, alarms = np.random.default_rng(0), np.zeros(2)
    design = design_of(a_lab(rng, 12, 9), "genotype", covariates)
    for seed in range(COHORTS):
        shared, own = rng.standard_normal((21, 1)), rng.standard_normal((21, 10))
        found = group_differences(shared + own, design, n_permutations=99, seed=seed)
        alarms += [found["p_family"].min() <= 0.05, found["q"].min() <= 0.05]
    assert within_chance(alarms[0])
    assert alarms[1] <= stats.binom.isf(0.0005, COHORTS, 0.05)  # Benjamini and Hochberg's is safe


def test_measures_that_are_not_the_designs_are_refused():
    brains = two_groups(6, 6).rename("m{}".format)
    values, design = np.random.default_rng(0).random((12, 2)), design_of(brains, "genotype")
    table = pd.DataFrame(values, brains.index, ["VISp", "SSp"])
    gaps = table.assign(SSp=[np.nan, 1] * 2 + [1.0] * 8)
    cases = [
        ("values are of 11 brains and the design of 12", values[:11]),
        ("of the same in another order", table[::-1]),
        ("'SSp' has no value for brain m0, m2 .2 in all", gaps),
        ("'SSp' holds words", table.assign(SSp="a")),
    ]
    refused([(message, group_differences, wrong, design) for message, wrong in cases])
    refused([("n_permutations=-1", lambda: group_differences(values, design, n_permutations=-1))])
