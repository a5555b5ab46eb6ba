"""Power: the formula by statsmodels and by hand, and studies drawn from reference brains."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from statsmodels.stats.power import TTestIndPower

from brainvae_core.metrics import brains_needed, power_curve, smallest_difference

NORMAL = np.random.default_rng(0).standard_normal((600, 1))


def test_textbook_numbers_of_brains():
    """Cohen (1988), table 2.4.1: large, medium and small effects at 80 and 90 %."""
    assert [brains_needed(1, size) for size in (0.8, 0.5, 0.2)] == [26, 64, 394]
    assert [brains_needed(2, size, power=0.9) for size in (1.6, -1.0)] == [34, 86]
    assert brains_needed(1, 100) == 2


@given(
    size=st.floats(0.1, 4),
    power=st.floats(0.3, 0.99),
    alpha=st.sampled_from([0.05, 0.01]),
    n_measures=st.sampled_from([1, 8, 40]),
)
def test_they_are_the_fewest_by_statsmodels(size, power, alpha, n_measures):
    found = brains_needed(3.0, 3.0 * size, alpha=alpha, power=power, n_measures=n_measures)
    # Of the side that the difference is on: the other one has no power to speak of.
    level = alpha / n_measures / 2
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


def test_studies_of_normal_brains_have_the_formulas_power():
    table = pd.DataFrame(NORMAL * 5 + 100, columns=["VISp"])
    found = power_curve(table, 5.0, [5, 12, 30], draws=400)
    assert found["measure"].tolist() == ["VISp"] * 3
    assert found["n_per_group"].tolist() == [5, 12, 30]
    assert found["power"].is_monotonic_increasing
    assert (
        (found["low"] - 0.02 < found["formula"]) & (found["formula"] < found["high"] + 0.02)
    ).all()
    nothing = power_curve(table, 0.0, [12], draws=2000)
    assert nothing["low"][0] < 0.05 < nothing["high"][0]
    assert nothing["formula"][0] == pytest.approx(0.05)
    again = power_curve(table, 5.0, [5, 12, 30], draws=400)
    pd.testing.assert_frame_equal(found, again)


def test_a_measure_of_outliers_is_not_as_the_formula_says():
    heavy = np.random.default_rng(1).standard_t(1.5, (600, 1))
    (row,) = power_curve(heavy, 0.5 * heavy.std(), [20], draws=400).to_dict("records")
    assert row["low"] > row["formula"] + 0.1


def test_covariates_bring_the_spread_down_to_what_they_leave():
    age = np.random.default_rng(2).standard_normal((600, 1))
    values = np.hstack([NORMAL, NORMAL + 3 * age])
    raw = power_curve(values, [1.0, 1.0], [15], draws=200)
    adjusted = power_curve(values, [1.0, 1.0], [15], covariates=age, draws=200)
    assert raw["power"][1] < 0.3 < 0.6 < adjusted["power"][1]
    np.testing.assert_allclose(adjusted["power"][0], adjusted["power"][1])
    np.testing.assert_allclose(adjusted["formula"][0], adjusted["formula"][1])
    strict = power_curve(values, 1.0, [15], covariates=age, n_measures=40, draws=200)
    assert (strict["power"] < adjusted["power"]).all()


def test_what_has_no_power_is_refused():
    refused(
        [
            ("spread=0 and difference=1 must be positive", brains_needed, 0, 1),
            ("difference=0 must be positive", brains_needed, 1, 0),
            ("1,000,000 brains a group do not show it", brains_needed, 1, 1e-4),
            ("groups of 1 and 9 brains have no spread", smallest_difference, 1, 1, 9),
            (
                "groups of 4 to 301.*from 600 reference brains; ask for 2 to 300",
                power_curve,
                NORMAL,
                1,
                [4, 301],
            ),
            (r"values is \(600,\)", power_curve, NORMAL[:, 0], 1, [4]),
        ]
    )
    for wrong in ({"alpha": 0.9}, {"power": 1.0}, {"n_measures": 0}):
        with pytest.raises(ValueError, match="alpha the smaller"):
            brains_needed(1, 1, **wrong)
