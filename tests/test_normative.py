"""Norms: known deviations, tails of further brains, what is known of them, an independent fit."""

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from scipy.optimize import minimize
from scipy.stats import binom, kstest, norm, t

from brainvae_core.metrics import AdjustedNorm, Norm
from brainvae_core.metrics.normative import SHAPE_SPREAD

DRAWS = {
    "Gaussian": lambda rng, size: rng.standard_normal(size),
    "skewed": lambda rng, size: np.exp(0.5 * rng.standard_normal(size)),
    "exponential": lambda rng, size: rng.exponential(size=size),
    "heavy tails": lambda rng, size: rng.standard_t(5, size),
}


def rows(n=400, k=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, k))


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_further_ordinary_brains_are_standard_normal(draw):
    rng = np.random.default_rng(1)
    found = Norm(draw(rng, (800, 30))).z(draw(rng, (500, 30)))
    for beyond in (found > norm.isf(0.025), found < norm.isf(0.975)):
        assert 0.015 < beyond.mean() < 0.035
    assert (np.abs(found) > norm.isf(0.0005)).mean() < 0.003
    assert found.mean() == pytest.approx(0, abs=0.05) and found.std() == pytest.approx(1, abs=0.05)


def test_few_reference_brains_hardly_make_others_unusual():
    """Plain standard deviations of 20 brains call more than twice as many far out as there are."""
    values, others = rows(20, 500), rows(200, 500, seed=1)
    plain = (others - values.mean(axis=0)) / values.std(axis=0)
    found, plain = ((np.abs(z) > norm.isf(0.005)).mean() for z in (Norm(values).z(others), plain))
    assert 0.01 < found < 0.02 < 0.023 < plain


def test_a_gaussian_norm_is_the_predictive_t_distribution():
    """Without a warp the deviation has the tail probability of Student's prediction interval."""
    values, age = rows(60, 1), rows(60, 1, seed=1)
    norm_of = Norm(values, age)
    norm_of._warp = np.zeros((4, 1))
    design = np.column_stack([np.ones(60), age])
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ values
    spread = np.sqrt(np.square(values - design @ coefficients).sum() / 58)
    for value, at in ((0.3, 0.0), (2.0, -1.0), (-4.0, 3.0)):
        term = np.array([1.0, at])
        error = spread * np.sqrt(1 + term @ inverse @ term)
        wanted = norm.isf(t.sf((value - term @ coefficients[:, 0]) / error, 58))
        assert norm_of.z([[value]], [[at]])[0, 0] == pytest.approx(wanted, abs=2e-3)


def test_the_warp_is_the_most_likely_one():
    values = DRAWS["skewed"](np.random.default_rng(0), (300, 1))
    x = ((values - values.mean()) / values.std(ddof=1) / np.sqrt(1 - 1 / 300))[:, 0]

    def unlikely(p):
        centre, log_scale, skew, log_tail = p
        y = (x - centre) / np.exp(log_scale)
        z = np.sinh(np.exp(log_tail) * np.arcsinh(y) - skew)
        slope = np.exp(log_tail - log_scale) * np.sqrt((1 + z**2) / (1 + y**2))
        shape = norm.logpdf([skew, log_tail], scale=SHAPE_SPREAD).sum()
        return -(norm.logpdf(z) + np.log(slope)).sum() - shape

    found = Norm(values)._warp[:, 0]
    best = minimize(unlikely, np.zeros(4), method="Nelder-Mead", options={"maxiter": 9000})
    assert unlikely(found) < best.fun + 1e-3
    assert (np.diff(Norm(values).z(np.linspace(-99, 99, 400)[:, None])[:, 0]) > 0).all()


def test_what_covariates_explain_is_no_deviation():
    rng = np.random.default_rng(0)
    age, sex = rng.normal(56, 4, 600), rng.integers(0, 2, 600)
    covariates = np.column_stack([age, sex])
    values = np.column_stack([0.3 * age + 2 * sex, -age]) + rng.standard_normal((600, 2))
    known, unknown = Norm(values[:400], covariates[:400]), Norm(values[:400])
    found = known.z(values[400:], covariates[400:])
    assert kstest(found.ravel(), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(found.T, covariates[400:].T)[:2, 2:]).max() < 0.2
    young = [[0.3 * 48 + 2, -48 + 3.0]]  # ordinary of a male of 48 days, but for the second
    np.testing.assert_allclose(known.z(young, [[48, 1]]), [[0, 3]], atol=0.4)
    assert abs(unknown.z(young)[0, 1]) > 2
    assert abs(known.z([[0.3 * 900 + 3, -900]], [[900, 0]])[0, 0]) < 1.5  # far off is uncertain


def test_a_brain_as_a_whole_is_judged_once_for_all_measures():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((30, 30)) / 5 + np.eye(30)
    reference, others = rows(300, 30) @ mixing, rows(2000, 30, seed=1) @ mixing
    norm_of = Norm(reference)
    for judge in (norm_of.whole, norm_of.largest):
        found = judge(others)
        assert found.shape == (2000,)
        low, high = binom.interval(0.999, 2000, 0.05)
        assert 0.4 * low < (found > norm.isf(0.05)).sum() < 1.6 * high
    shift = np.zeros(30)
    shift[4] = 6 * others[:, 4].std()
    assert np.median(norm_of.largest(others + shift)) > 3
    assert np.median(norm_of.whole(others + shift)) > 3
    against = np.linalg.eigh(np.cov(reference.T))[1][:, 0]  # how no reference brain varies
    hidden = others + 0.3 * against
    assert np.median(norm_of.whole(hidden)) > np.median(norm_of.largest(hidden))


# ---- adjusted by what is known of each brain ----


def brains(n, seed=0):
    """Measures that sex and age explain in part, and what was recorded."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"sex": rng.choice(["F", "M"], n), "age_days": 50.0 + rng.integers(0, 30, n)},
        index=[f"m{i}" for i in range(n)],
    )
    both = np.column_stack([table["sex"] == "M", table["age_days"] / 10])
    values = both @ [[4.0, 0.0, 1.0], [0.0, 2.0, 1.0]] + rng.standard_normal((n, 3))
    return values, table


VALUES, TABLE = brains(300)
NUMBERS = np.column_stack([TABLE["sex"] == "M", TABLE["age_days"]]).astype(float)
NORM = AdjustedNorm(VALUES, TABLE)


@pytest.mark.parametrize("what", ["z", "whole", "largest"])
def test_each_brain_is_judged_by_what_is_known_of_it(what):
    values, table = brains(12, seed=1)
    table.loc["m1", "sex"], table.loc["m2", "age_days"] = None, np.nan
    table.loc["m3", ["sex", "age_days"]] = ["?", np.nan]
    table.loc["m4", "age_days"] = 400
    table.loc["m5", ["sex", "age_days"]] = ["f", 81.5]  # a little beyond 79
    numbers = np.column_stack([table["sex"] == "M", table["age_days"]]).astype(float)
    known = np.isin(np.arange(12), [0, *range(5, 12)])
    found = getattr(NORM, what)(values, table)
    for rows, columns in ((known, [0, 1]), ([1], [1]), ([2, 4], [0]), ([3], [])):
        given = (numbers[rows][:, columns],) if columns else ()
        norm = Norm(VALUES, NUMBERS[:, columns]) if columns else Norm(VALUES)
        np.testing.assert_allclose(found[rows], getattr(norm, what)(values[rows], *given))
    why = NORM.unknown(table)
    assert (why[known] == "").all(axis=None)
    assert why.loc["m1"].tolist() == ["no value", ""] and why.loc["m3"].tolist() == ["no value"] * 2
    assert why.loc["m4", "age_days"] == "400.0 is beyond the reference's 50 to 79"


def test_what_a_reference_says_nothing_of_is_no_covariate(monkeypatch):
    few = TABLE.assign(
        strain=["A"] * 295 + ["B"] * 5,
        twin=np.where(TABLE["sex"] == "M", "b", "a"),
        site=[f"s{i % 20}" for i in range(300)],
        rare=[1.0, 2.0] * 60 + [np.nan] * 180,
        same=3.0,
    )
    names = ["sex", "strain", "twin", "site", "rare", "same", "age_days", "batch"]
    monkeypatch.setattr("brainvae_core.metrics.normative.RECORDED", names)
    assert AdjustedNorm(VALUES, few).names == ["sex", "age_days"]
    assert AdjustedNorm(VALUES, TABLE[[]]).names == []
    assert AdjustedNorm(VALUES, TABLE[[]]).unknown(TABLE).shape == (300, 0)


def test_reference_brains_of_which_a_covariate_is_not_known_judge_those_without_it():
    gaps, kept = TABLE.copy(), np.arange(300) >= 60
    gaps.loc[gaps.index[~kept], "sex"] = None
    norm, (values, table) = AdjustedNorm(VALUES, gaps), brains(5, seed=3)
    numbers = np.column_stack([table["sex"] == "M", table["age_days"]]).astype(float)
    wanted = Norm(VALUES[kept], NUMBERS[kept]).z(values, numbers)
    np.testing.assert_allclose(norm.z(values, table), wanted)
    np.testing.assert_allclose(norm.z(values, table[[]]), Norm(VALUES).z(values))


def test_what_gives_no_norm_is_refused_by_name():
    values, ages = rows(50, 2), rows(50, 1, seed=1)
    of_age, alone, both = Norm(values, ages), np.eye(50)[:, :1], np.hstack
    cases = [
        ("11 reference brains are too few for a norm with 0", Norm, values[:11]),
        ("12 reference brains are too few for a norm with 1", Norm, values[:12], ages[:12]),
        ("50 brains have 49 rows of covariates", Norm, values, ages[:49]),
        ("covariate 1 is the same in all", Norm, values, both([ages, 0 * ages + 3])),
        ("covariate 1 is a sum", Norm, values, both([ages, 2 * ages - 1])),
        ("reference brain 0 is the only one with its level", Norm, values, alone),
        (r"measures \[1\] do not vary", Norm, both([ages, 0.3 + 0 * alone])),
        (r"measures \[1\] do not vary", Norm, both([values[:, :1], 2 * ages + 1]), ages),
        ("3 measures and 1 covariates, the norm 2 and 1;", of_age.z, rows(4, 3), ages[:4]),
        ("2 measures and 1 covariates, the norm 2 and 0;", Norm(values).largest, values, ages),
        ("^300 brains have 299 rows of metadata", AdjustedNorm, VALUES, TABLE[1:]),
        ("^2 brains have 3 rows of metadata", NORM.z, VALUES[:2], TABLE[:3]),
    ]
    refused(cases)
