"""Norms by what is known of each brain: exact where all is, and without what is not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from brainvae_core.metrics import AdjustedNorm, Norm


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


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["F", "M", "", "x", None]), min_size=1, max_size=6), st.randoms())
def test_no_brains_answer_depends_on_the_others(sexes, random):
    values, table = brains(len(sexes), seed=4)
    table["sex"] = pd.Series(sexes, index=table.index, dtype=object)
    order = random.sample(range(len(sexes)), len(sexes))
    together = NORM.z(values, table)
    assert np.isfinite(together).all()
    np.testing.assert_allclose(NORM.z(values[order], table.iloc[order]), together[order])
    np.testing.assert_allclose(NORM.z(values[:1], table[:1]), together[:1])


def test_what_does_not_fit_is_refused():
    refused(
        [
            ("^300 brains have 299 rows of metadata", AdjustedNorm, VALUES, TABLE[1:]),
            ("^2 brains have 3 rows of metadata", NORM.z, VALUES[:2], TABLE[:3]),
            ("the brains have 2 measures, the norm 3", NORM.z, VALUES[:2, :2], TABLE[:2]),
        ]
    )
