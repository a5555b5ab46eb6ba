"""Uncorrelatedness, covariance and agreement of fields."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brainvae_core.fields import (
    bootstrap_uncorrelatedness,
    field_agreement,
    impact_covariance,
    normalised_impacts,
    uncorrelatedness,
    uncorrelatedness_interval,
    uncorrelatedness_null,
)

positive_tables = arrays(np.int64, (7, 4), elements=st.integers(1, 1000), unique=True)


def independent(seed, n_rois=6, latents=8):
    return np.random.default_rng(seed).exponential(size=(n_rois, latents))


def test_independent_columns_score_063_at_six_regions_and_eight_latents():
    scores = [uncorrelatedness(independent(s)) for s in range(300)]
    assert np.mean(scores) == pytest.approx(0.63, abs=0.015)
    assert np.std(scores) == pytest.approx(0.05, abs=0.015)


def test_two_latents_are_forced_to_zero():
    assert uncorrelatedness(independent(0, latents=2)) == pytest.approx(0, abs=1e-12)


def test_more_regions_raise_the_score_of_independent_columns():
    few = np.mean([uncorrelatedness(independent(s)) for s in range(50)])
    many = np.mean([uncorrelatedness(independent(s, n_rois=200)) for s in range(20)])
    assert many > 0.85 > few


def test_opposed_columns_score_as_low_as_equal_ones():
    """Latents 1 and 2 share one profile and 3 and 4 its opposite: every |correlation| is 1."""
    up = np.array([1.0, 2, 3, 4, 7])
    assert uncorrelatedness(np.stack([up, up, 10 - up, 10 - up], 1)) == pytest.approx(0, abs=1e-12)


@given(positive_tables)
@settings(max_examples=40, deadline=None)
def test_against_pandas(table):
    frame = pd.DataFrame(table)
    correlation = frame.div(frame.sum(axis=1), axis=0).corr().abs()
    pairs = [correlation.iloc[i, j] for i in range(4) for j in range(i)]
    assert uncorrelatedness(table) == pytest.approx(1 - np.mean(pairs), abs=1e-6)


@given(positive_tables, arrays(np.float64, (7, 1), elements=st.floats(0.1, 100)))
@settings(max_examples=25, deadline=None)
def test_a_regions_strength_and_the_order_of_things_do_not_matter(table, strength):
    score = uncorrelatedness(table)
    assert 0 <= score <= 1
    assert uncorrelatedness(table * strength) == pytest.approx(score, abs=1e-6)
    assert uncorrelatedness(table[::-1, ::-1]) == pytest.approx(score, abs=1e-9)


def test_inactive_latents_change_nothing():
    table = independent(1)
    wide = np.insert(table, 3, 1000.0, axis=1)
    active = np.arange(9) != 3
    assert uncorrelatedness(wide, active) == pytest.approx(uncorrelatedness(table))
    assert np.allclose(normalised_impacts(wide, active)[:, active], normalised_impacts(table))
    assert np.all(normalised_impacts(wide, active)[:, 3] == 0)
    np.testing.assert_allclose(normalised_impacts(wide, active).sum(1), 1)
    null = uncorrelatedness_null(wide, 5, 0, active)
    np.testing.assert_allclose(null, uncorrelatedness_null(table, 5, 0))


def test_null_forgets_the_regions_and_keeps_the_closure():
    """Latents that share two profiles score low; permuted, they score as independent ones do."""
    rng = np.random.default_rng(2)
    profile = rng.exponential(size=(6, 2)).repeat(4, axis=1)
    table = profile * rng.uniform(0.95, 1.05, (6, 8))
    null = uncorrelatedness_null(table, 200, seed=0)
    assert null.shape == (200,) and np.array_equal(null, uncorrelatedness_null(table, 200, seed=0))
    assert uncorrelatedness(table) < np.quantile(null, 0.01)
    assert np.mean(null) == pytest.approx(0.63, abs=0.06)
    assert np.allclose(uncorrelatedness_null(independent(3, latents=2), 20, 0), 0, atol=1e-9)


def test_null_ignores_the_strength_of_regions():
    table = independent(4)
    strong = table * np.array([[1], [1], [1000], [1], [1], [10]])
    np.testing.assert_allclose(
        uncorrelatedness_null(strong, 30, 1), uncorrelatedness_null(table, 30, 1)
    )


def test_bootstrap_and_its_interval():
    """Repeated regions correlate by chance, so raw draws lie low; the interval is put back."""
    covered, low_draws = 0, 0
    for seed in range(20):
        table = independent(seed)
        scores = bootstrap_uncorrelatedness(table, 150, seed)
        low, high = uncorrelatedness_interval(table, scores)
        assert scores.shape == (150,) and 0 <= low < uncorrelatedness(table) < high <= 1
        covered += low <= 0.63 <= high
        low_draws += scores.mean() < uncorrelatedness(table)
    assert covered >= 18 and low_draws == 20


def test_bootstrap_takes_fields_of_resampled_brains():
    rng, table = np.random.default_rng(5), independent(6)
    same = bootstrap_uncorrelatedness(np.stack([table] * 3), 200, 0)
    noisy = table * rng.lognormal(0, 0.5, (30, 6, 8))
    assert same.mean() == pytest.approx(bootstrap_uncorrelatedness(table, 200, 1).mean(), abs=0.03)
    assert bootstrap_uncorrelatedness(noisy, 200, 0).shape == (200,)


def test_covariance_against_its_definition():
    table = independent(7, n_rois=5, latents=3)
    shares = table / table.sum(1, keepdims=True)
    covariance = impact_covariance(table)
    assert covariance.shape == (3, 3)
    for i in range(3):
        for j in range(3):
            expected = sum(
                (a - shares[:, i].mean()) * (b - shares[:, j].mean())
                for a, b in zip(shares[:, i], shares[:, j], strict=True)
            )
            assert covariance[i, j] == pytest.approx(expected / 4)
    np.testing.assert_allclose(covariance.sum(axis=1), 0, atol=1e-12)
    without = impact_covariance(table, np.array([True, False, True]))
    assert without.shape == (3, 3) and np.all(without[1] == 0) and np.all(without[:, 1] == 0)


def test_agreement_is_a_rank_correlation_per_latent():
    receptive = np.array([[1, 4, 1], [2, 3, 1], [3, 2, 1], [40, 1, 1.0]])
    profile = np.array([[0, 1, 5, 9], [0, 1, 5, 9], [3, 1, 2, 4.0]])
    active = np.array([True, True, False])
    agreement = field_agreement(receptive, profile, active)
    np.testing.assert_allclose(agreement[:2], [1, -1])
    assert np.isnan(agreement[2])
    with pytest.raises(ValueError, match="latents at index \\[2\\]"):
        field_agreement(receptive, profile)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 4)), rng.normal(size=(4, 9))
    ranks = [pd.Series(a[:, k]).corr(pd.Series(b[k]), method="spearman") for k in range(4)]
    np.testing.assert_allclose(field_agreement(a, b), ranks)


def test_errors_name_what_was_given():
    table = independent(8)
    constant = np.array([[1, 2, 3], [1, 3, 2], [1, 4, 1], [1, 1, 4.0]])
    zero_row = table.copy()
    zero_row[2] = 0
    cases = [
        ("too few", lambda: uncorrelatedness(table[:2])),
        ("too few", lambda: uncorrelatedness(table[:, :1])),
        ("too few", lambda: uncorrelatedness(table, np.arange(8) == 1)),
        (r"regions \[2\]", lambda: uncorrelatedness(zero_row)),
        (r"index \[0\]", lambda: uncorrelatedness(constant)),
        ("finite", lambda: uncorrelatedness(-table)),
        ("finite", lambda: uncorrelatedness(table * np.nan)),
        ("one bool", lambda: uncorrelatedness(table, np.ones(7, dtype=bool))),
        ("one bool", lambda: uncorrelatedness(table, np.ones(8))),
        ("one region", lambda: impact_covariance(table[:1])),
        ("at least 3 regions", lambda: field_agreement(table, table)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
