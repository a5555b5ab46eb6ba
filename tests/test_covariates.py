"""Covariates set against latents: planted where there are some, else recorded and varying."""

import numpy as np
import pandas as pd
import pytest

from brainvae_core.cohorts import Cohort, drawn_atlas, simulate
from brainvae_core.cohorts.covariates import factor_extremes, known_factors

SHAPE = (40, 56)


@pytest.fixture(scope="module")
def cohort():
    return simulate(9, shape=SHAPE, artefact_share=0, seed=2)


def recorded(cohort, **columns):
    metadata = pd.DataFrame(columns, index=cohort.metadata.index)
    return Cohort(cohort.images, metadata, cohort.atlas)


def test_planted_factors_come_first(cohort):
    found = known_factors(cohort)
    np.testing.assert_array_equal(found, cohort.factors)
    assert list(found) == list(cohort.factors)


def test_what_is_recorded_becomes_numbers(cohort):
    gain = np.linspace(0.5, 2, 9)
    found = known_factors(
        recorded(
            cohort,
            sex=["M", "F", "M", "F", None, "M", "M", "F", "F"],
            treated=[1, 0, 0, 1, 1, 0, 0, 1, 1],
            strain=["a", "b", "c"] * 3,
            gain=gain,
            injection_structure=["SSp"] * 9,
            injection_volume=["0.25", None, *["0.5"] * 7],
            injection_ap=[5.0] * 9,
            injection_dv=np.arange(9),
            age_days=[None] * 9,
            outlier=["none"] * 9,
        )
    )
    assert list(found) == ["sex M", "treated", "injection_volume", "injection_dv", "log_gain"]
    assert found["sex M"].tolist() == [1, 0, 1, 0, 0.5, 1, 1, 0, 0]
    np.testing.assert_allclose(found["log_gain"], np.log(gain))
    assert found["injection_volume"].iloc[1] == pytest.approx((0.25 + 7 * 0.5) / 8)
    assert set(found.dtypes) == {np.dtype(float)} and np.isfinite(found).all(axis=None)
    assert found.index.equals(cohort.metadata.index)


def test_nothing_may_be_known(cohort):
    assert known_factors(recorded(cohort, strain=["a"] * 9)).shape == (9, 0)
    assert known_factors(recorded(cohort, sex=[None] * 9, gain=[1.0] * 9)).shape == (9, 0)
    assert known_factors(recorded(cohort)).shape == (9, 0)


def test_extremes_are_the_means_at_either_end():
    images = np.random.default_rng(0).random((40, 3, 5))
    values = np.random.default_rng(1).permutation(40).astype(float)
    found = factor_extremes(pd.DataFrame({"a": values, "b": -values}), images, share=0.1)
    order = np.argsort(values)
    np.testing.assert_allclose(found["a"][0], images[order[:4]].mean(axis=0))
    np.testing.assert_allclose(found["a"][1], images[order[-4:]].mean(axis=0))
    for one, other in zip(found["a"], found["b"][::-1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_binary_factor_has_its_two_groups():
    images = np.random.default_rng(0).random((9, 3, 5))
    male = np.array([0, 1, 1, 0, 0.5, 1, 0, 1, 1.0])
    low, high = factor_extremes(pd.DataFrame({"male": male}), images)["male"]
    np.testing.assert_allclose(low, images[male == 0].mean(axis=0))
    np.testing.assert_allclose(high, images[male == 1].mean(axis=0))


def test_extremes_without_factors_are_none():
    assert factor_extremes(pd.DataFrame(index=range(4)), np.ones((4, 3, 5))) == {}


@pytest.mark.parametrize(
    ("n", "share", "words"),
    [(4, 0.05, "5 rows of factors and 4 images"), (5, 0, r"share=0 is outside"), (5, 0.6, "share")],
)
def test_what_does_not_fit_is_refused(n, share, words):
    with pytest.raises(ValueError, match=words):
        factor_extremes(pd.DataFrame({"a": range(5)}), np.ones((n, 3, 5)), share)


def test_what_does_not_vary_in_a_part_of_the_split_is_left_out():
    metadata = pd.DataFrame(
        {
            "gain": [1.0, 2.0, 3.0, 4.0, 5.0],
            "injection_dv": [1.0, 2.0, 2.5, 7.0, 7.0],  # one value among the test brains
            "split": ["train", "train", "validation", "test", "test"],
        },
        index=list("abcde"),
    )
    atlas = drawn_atlas().resampled((20, 28))
    images = np.random.default_rng(0).random((5, 20, 28))
    cohort = Cohort(images, metadata, atlas)
    assert list(known_factors(cohort)) == ["log_gain"]
    assert list(known_factors(cohort.split("train"))) == ["injection_dv", "log_gain"]
