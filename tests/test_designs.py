"""Who is left to compare once brains without a covariate are left out, and how many it takes."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from statsmodels.stats.power import TTestIndPower

from brainvae_core.metrics import (
    asked_design,
    brains_needed,
    design_of,
    smallest_difference,
    usable_brains,
)

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
    design, used, why = asked_design(TWO, "genotype", ["age"])
    wanted, told = usable_brains(TWO, "genotype", ["age"])
    assert used.tolist() == wanted.tolist() and why == told == {"m6": "no age"}
    assert design.contrast == "KO − WT" and list(design.brains) == [f"m{i}" for i in range(6)]
    assert (design.matrix == design_of(TWO[:6], "genotype", ["age"]).matrix).all()
    assert asked_design(TABLE, "dose", ["age"])[0].contrast == "per unit of dose"


@pytest.mark.parametrize(
    "gone, left", [(["m5"], "one brain, m4, is"), (["m4", "m5"], "no brain is")]
)
def test_a_group_that_a_covariate_leaves_too_small_is_told_by_its_brains(gone, left):
    table = TWO.copy()
    table.loc[gone, "age"] = None
    lost = ", ".join(f"{brain} (no age)" for brain in [*gone, "m6"])
    told = f"^of genotype 'KO' {left} left, .* left out for a covariate: {lost}; correct"
    refused(
        [
            (
                told.replace("(no", r"\(no").replace("age)", r"age\)"),
                asked_design,
                table,
                "genotype",
                ["age"],
            )
        ]
    )
    assert len(asked_design(table, "genotype")[0].brains) == 7


# ---- power: the formula by statsmodels and by hand ----


def test_textbook_numbers_of_brains():
    """Cohen (1988), table 2.4.1: large, medium and small effects at 80 and 90 %."""
    assert [brains_needed(1, size) for size in (0.8, 0.5, 0.2)] == [26, 64, 394]
    assert [brains_needed(2, size, power=0.9) for size in (1.6, -1.0)] == [34, 86]
    assert brains_needed(1, 100) == 2


@given(
    size=st.floats(0.1, 4),
    power=st.floats(0.3, 0.99),
    n_measures=st.sampled_from([1, 8, 40]),
)
def test_they_are_the_fewest_by_statsmodels(size, power, n_measures):
    found = brains_needed(3.0, 3.0 * size, power=power, n_measures=n_measures)
    # Of the side that the difference is on: the other one has no power to speak of.
    level = 0.05 / n_measures / 2
    reached = [TTestIndPower().power(size, n, level, 1, None, "larger") for n in (found, found - 1)]
    assert reached[0] > power - 0.001
    assert found == 2 or reached[1] < power + 0.001


@given(n_a=st.integers(2, 80), n_b=st.integers(2, 80), n_measures=st.sampled_from([1, 8, 40]))
def test_the_smallest_difference_has_the_power_asked_for(n_a, n_b, n_measures):
    found = smallest_difference(0.2, n_a, n_b, n_measures=n_measures) / 0.2
    reached = TTestIndPower().power(found, n_a, 0.05 / n_measures, ratio=n_b / n_a)
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
        ]
    )
    for wrong in ({"power": 1.0}, {"power": 0.04}, {"n_measures": 0}):
        with pytest.raises(ValueError, match="must lie between"):
            brains_needed(1, 1, **wrong)
