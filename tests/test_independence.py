"""Uncorrelatedness and correlation of fields, and what chance would give."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from refusals import refused
from toys import Toy, brains_of_regions

from brainvae_core.fields import (
    impact_correlation,
    normalised_impacts,
    receptive_field,
    scored_field,
    uncorrelatedness,
    weight_range,
)
from brainvae_core.fields.independence import uncorrelatedness_null

positive_tables = arrays(np.int64, (7, 4), elements=st.integers(1, 1000), unique=True)


def independent(seed, n_rois=6, latents=8):
    return np.random.default_rng(seed).exponential(size=(n_rois, latents))


def test_independent_columns_score_063_at_six_regions_and_eight_latents():
    scores = [uncorrelatedness(independent(s)) for s in range(300)]
    assert np.mean(scores) == pytest.approx(0.63, abs=0.015)
    assert np.std(scores) == pytest.approx(0.05, abs=0.015)


@given(positive_tables)
@settings(max_examples=40, deadline=None)
def test_scores_and_correlations_against_pandas(table):
    shares = pd.DataFrame(table).div(table.sum(axis=1), axis=0)
    correlation = shares.corr().abs()
    pairs = [correlation.iloc[i, j] for i in range(4) for j in range(i)]
    assert uncorrelatedness(table) == pytest.approx(1 - np.mean(pairs), abs=1e-6)
    np.testing.assert_allclose(impact_correlation(table), shares.corr(), atol=1e-9)


def test_inactive_latents_change_nothing():
    table = independent(1)
    wide = np.insert(table, 3, 1000.0, axis=1)
    active = np.arange(9) != 3
    assert uncorrelatedness(wide, active) == pytest.approx(uncorrelatedness(table))
    assert np.allclose(normalised_impacts(wide, active)[:, active], normalised_impacts(table))
    assert np.all(normalised_impacts(wide, active)[:, 3] == 0)
    np.testing.assert_allclose(normalised_impacts(wide, active).sum(1), 1)
    null = uncorrelatedness_null(wide, 5, active)
    np.testing.assert_allclose(null, uncorrelatedness_null(table, 5))


def test_null_forgets_the_regions_and_keeps_the_closure():
    """Latents that share two profiles score low; permuted, they score as independent ones do."""
    rng = np.random.default_rng(2)
    profile = rng.exponential(size=(6, 2)).repeat(4, axis=1)
    table = profile * rng.uniform(0.95, 1.05, (6, 8))
    null = uncorrelatedness_null(table, 200)
    assert null.shape == (200,)
    assert uncorrelatedness(table) < np.quantile(null, 0.01)
    assert np.mean(null) == pytest.approx(0.63, abs=0.06)
    assert np.allclose(uncorrelatedness_null(independent(3, latents=2), 20), 0, atol=1e-9)
    strong = table * np.array([[1], [1], [1000], [1], [1], [10]])  # shares, not strengths
    np.testing.assert_allclose(uncorrelatedness_null(strong, 200), null)


def field_of(reads, n_brains=40):
    """Of a reader of regions that vary alike and independently."""
    n_rois = len(reads[0])
    masks = np.eye(n_rois, dtype=bool)[:, :, None].repeat(5, axis=2)
    images = brains_of_regions(masks, n_brains)
    weights = weight_range(images, masks)
    return receptive_field(Toy(masks, reads), images, masks, weights)


def mixed(seed, latents=5, n_rois=9):
    return np.random.default_rng(seed).normal(size=(latents, n_rois))


def test_a_field_is_scored_with_its_draws_and_both_chances():
    field, active = field_of(mixed(0)), np.arange(5) != 3
    found = scored_field(field, active, n=11, n_rotations=4)
    table = field.divergence[:, active]
    assert found.value == pytest.approx(uncorrelatedness(table))
    np.testing.assert_allclose(found.permuted, uncorrelatedness_null(table, 11))
    turned = [uncorrelatedness(field.rotated(s, active).divergence) for s in range(4)]
    np.testing.assert_allclose(found.rotated, turned)
    expected = [uncorrelatedness(drawn[:, active]) for drawn in field.bootstrapped(11, 0)]
    np.testing.assert_allclose(found.resamples, expected)


def test_errors_name_what_was_given():
    table = independent(8)
    constant = np.array([[1, 2, 3], [1, 3, 2], [1, 4, 1], [1, 1, 4.0]])
    zero_row = table.copy()
    zero_row[2] = 0
    none = np.zeros(8, dtype=bool)
    cases = [
        ("too few", uncorrelatedness, table[:2]),
        (r"regions \[2\]", uncorrelatedness, zero_row),
        (r"index \[0\]", uncorrelatedness, constant),
        ("finite", uncorrelatedness, -1e-3 * table),
        ("one bool", uncorrelatedness, table, np.ones(7, dtype=bool)),
        ("none of the 8 latents is active", normalised_impacts, table, none),
        ("none of the 5 latents is active", scored_field, field_of(mixed(0)), none[:5], 3, 1),
    ]
    refused(cases)
