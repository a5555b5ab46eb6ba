"""Who is left to compare once brains without a covariate are left out, and how many it takes."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from statsmodels.stats.power import TTestIndPower

from brainvae_core.metrics import (
    brains_needed,
    design_of,
    smallest_difference,
    usable_design,
)
from brainvae_core.metrics.designs import usable_brains

TABLE = pd.DataFrame(
    {
        "genotype": ["WT"] * 4 + ["KO"] * 3 + ["HET"] * 2,
        "age": [61, 60, 64, 62, 60, 63, None, 61, 66],
        "batch": ["a", "b", "a", "b", "a", "b", "a", "b", "c"],
        "dose": range(9),
    },
    index=[f"m{i}" for i in range(9)],
)
TWO = TABLE[:7]


def test_a_design_is_of_the_brains_that_can_be_used():
    design, used, why = usable_design(TWO, "genotype", ["age"])
    wanted, told = usable_brains(TWO, "genotype", ["age"])
    assert used.tolist() == wanted.tolist() and why == told == {"m6": "no age"}
    assert design.contrast == "KO − WT" and list(design.brains) == [f"m{i}" for i in range(6)]
    assert (design.matrix == design_of(TWO[:6], "genotype", ["age"]).matrix).all()
    assert usable_design(TABLE, "dose", ["age"])[0].contrast == "per unit of dose"


@pytest.mark.parametrize(
    "gone, left", [(["m5"], "one brain, m4, is"), (["m4", "m5"], "no brain is")]
)
def test_a_group_that_a_covariate_leaves_too_small_is_told_by_its_brains(gone, left):
    table = TWO.copy()
    table.loc[gone, "age"] = None
    lost = ", ".join(f"{brain} (no age)" for brain in [*gone, "m6"])
    told = f"^of genotype 'KO' {left} left, .* left out for a covariate: {re.escape(lost)}; correct"
    refused([(told, usable_design, table, "genotype", ["age"])])
    assert len(usable_design(table, "genotype")[0].brains) == 7


def test_the_control_comes_first_and_numbers_are_slopes():
    columns = {
        "genotype": ([" KO", "KO", "WT", "WT "] * 3, "KO − WT"),
        "treatment": (["Vehicle", "Drug"] * 6, "Drug − Vehicle"),
        "line": (["Het", "+/+", "Hom"] * 4, "+/+, Het, Hom"),
        "side": (["right", "left"] * 6, "right − left"),
        "treated": ([False, True] * 6, "True − False"),
        "dose": ([5, 10] * 6, "10 − 5"),
        "age": (range(12), "per unit of age"),
        "weight": ([f"{x}.5" for x in range(12)], "per unit of weight"),
    }
    brains = pd.DataFrame({name: values for name, (values, _) in columns.items()})
    for name, (_, contrast) in columns.items():
        assert design_of(brains, name).contrast == contrast
    design = design_of(brains, "line", ["dose", "age"])
    assert design.columns == ["intercept", "line Het", "line Hom", "dose 10", "age"]
    np.testing.assert_array_equal(design.tested, [False, True, True, False, False])
    np.testing.assert_array_equal(design.matrix[:3, 1:4], [[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    numbers = design_of(brains, "weight").matrix[:, 1]
    np.testing.assert_array_equal(numbers, np.arange(12) + 0.5)


def test_every_brain_that_is_left_out_is_told_with_why():
    brains = pd.DataFrame(
        {
            "genotype": ["WT", "KO"] * 4 + ["KO", None],
            "age": [60, np.nan, *range(61, 68), np.inf],
            "line": ["a", "a", "b", "b", "c", "a", "b", "a", "d", "d"],
            "sex": ["M", "F", " ", "F", "M", "F", "M", "NA", "F", "M"],
        },
        index=[f"m{i}" for i in range(10)],
    )
    usable, why = usable_brains(brains, "genotype", ["age", "line", "sex"])
    assert why == {
        "m1": "no age",
        "m2": "no sex",
        "m4": "the only brain with line 'c'",
        "m7": "no sex",
        "m8": "the only brain with line 'd'",  # since m9 is left out
        "m9": "no genotype, age",
    }
    assert brains.index[usable].tolist() == ["m0", "m3", "m5", "m6"]
    doses = brains[:9].assign(dose=[0.0, 0, 0, 0, 10, 0, 0, 0, 0])
    _, why = usable_brains(doses, "genotype", ["dose"])
    assert why == {"m4": "the only brain with dose '10'"}
    everyone, nothing = usable_brains(brains.dropna()[:5], "genotype")
    assert everyone.all() and not nothing


def test_what_cannot_be_compared_is_refused_with_what_to_do():
    brains = pd.DataFrame({"genotype": ["WT"] * 6 + ["KO"] * 6, "age": range(12)})
    brains.index = [f"m{i}" for i in range(12)]
    gap, comma = brains["age"].astype(float), [f"{x},5" for x in range(12)]
    gap["m3"], both = np.nan, brains["age"] + 9 * (brains["genotype"] == "KO")

    def with_(**columns):
        return brains.assign(**columns)

    cases = [
        ("no column 'genotyp'; did you mean 'genotype'?", brains, "genotyp"),
        ("'age' is named twice", brains, "age", ["age"]),
        ("genotype is 'WT' for every brain.*two", brains[:6], "genotype"),
        ("one brain with 'HET'", with_(line=[*"aabb" * 2, *"aab", "HET"]), "line"),
        ("id has 12 values for 12 brains", with_(id=[*"abcdefghijkl"]), "id"),
        ("sum says the same as genotype and age", with_(sum=both), "genotype", ["age", "sum"]),
        ("age has no value for m3; leave", with_(age=gap), "age"),
        ("decimal comma, '0,5', for m0, m1, m2 and 9 more", with_(age=comma), "age"),
        ("holds numbers, but 'old' for m11; write", with_(age=[*range(11), "old"]), "age"),
        ("line has 'WT' and 'wt'", with_(line=["WT", "wt", "KO"] * 4), "line"),
        ("born holds dates", with_(born=pd.date_range("2024-01-01", periods=12)), "born"),
    ]
    refused([(message, design_of, *given) for message, *given in cases])
    small = with_(dose=1e-6 * np.arange(12) ** 2)  # in whatever unit
    assert design_of(small, "genotype", ["age", "dose"]).matrix.shape == (12, 4)
    refused(
        [
            ("no column 'qqq'; it has genotype, age", usable_brains, brains, "age", ["qqq"]),
            ("two rows are of brain m1;", usable_brains, brains.iloc[[0, 1, 1]], "age"),
        ]
    )


# ---- power: the formula by statsmodels and by hand ----


def test_textbook_numbers_of_brains():
    """Cohen (1988), table 2.4.1: large, medium and small effects at 80 %."""
    assert [brains_needed(1, size) for size in (0.8, 0.5, 0.2)] == [26, 64, 394]
    assert brains_needed(2, -1.6) == 26 and brains_needed(1, 100) == 2


@given(size=st.floats(0.1, 4), n_measures=st.sampled_from([1, 8, 40]))
def test_they_are_the_fewest_by_statsmodels(size, n_measures):
    found = brains_needed(3.0, 3.0 * size, n_measures=n_measures)
    # Of the side that the difference is on: the other one has no power to speak of.
    level = 0.05 / n_measures / 2
    reached = [TTestIndPower().power(size, n, level, 1, None, "larger") for n in (found, found - 1)]
    assert reached[0] > 0.799
    assert found == 2 or reached[1] < 0.801


@given(n_a=st.integers(2, 80), n_b=st.integers(2, 80), n_measures=st.sampled_from([1, 8, 40]))
def test_the_smallest_difference_has_the_power_asked_for(n_a, n_b, n_measures):
    found = smallest_difference(0.2, n_a, n_b, n_measures=n_measures) / 0.2
    # One side again: of both, statsmodels has no answer for two brains at 0.05 / 40.
    level = 0.05 / n_measures / 2
    reached = TTestIndPower().power(found, n_a, level, n_b / n_a, None, "larger")
    assert reached == pytest.approx(0.8, abs=1e-5)
    assert found == pytest.approx(smallest_difference(1, n_b, n_a, n_measures=n_measures))
    if n_a == n_b > 3:
        assert brains_needed(1, found * 1.0001, n_measures=n_measures) == n_a


def test_what_has_no_power_is_refused():
    refused(
        [
            ("spread=0 and difference=1 must be positive", brains_needed, 0, 1),
            ("difference=0 must be positive", brains_needed, 1, 0),
            ("1,000,000 brains a group do not show it", brains_needed, 1, 1e-4),
            ("groups of 1 and 9 brains have no spread", smallest_difference, 1, 1, 9),
            ("n_measures=0 must be", lambda: brains_needed(1, 1, n_measures=0)),
        ]
    )
