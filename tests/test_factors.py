"""Factors in codes: read from all latents together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy.stats import ortho_group

from brainvae_core.metrics import active_latents, linear_recovery


def normal(n, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((n, columns))


# No two sizes are equal, so that a swapped axis fails.
TRAIN, TEST = normal(300, 4, 3), normal(170, 4, 4)
CODES_TRAIN = np.column_stack([TRAIN, normal(300, 1, 5)])
CODES_TEST = np.column_stack([TEST, normal(170, 1, 6)])

# ---- recovery of planted factors and active latents ----

KNOWN, OTHER = normal(60, 3, 1), normal(41, 3, 2)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_rotated_scaled_and_shifted_codes_hold_the_same(seed, scale, shift):
    turn = ortho_group.rvs(3, random_state=seed) * scale

    def turned(codes):  # with a dead latent and a copy besides
        codes = codes @ turn + shift
        return np.column_stack([codes, np.full(len(codes), 0.3), 2 * codes[:, :1] + 1])

    np.testing.assert_allclose(
        linear_recovery(turned(KNOWN), KNOWN, turned(OTHER), OTHER), 1, atol=1e-6
    )


def test_a_second_implementation_of_recovery_agrees():
    train, test = normal(60, 4, 7), normal(41, 4, 8)
    train[:, :3] += KNOWN
    test[:, :3] += OTHER
    found = linear_recovery(train, KNOWN, test, OTHER)
    for factor in range(3):
        design = np.column_stack([np.ones(60), train])
        weights = np.linalg.solve(design.T @ design, design.T @ KNOWN[:, factor])
        truth = OTHER[:, factor]
        error = truth - np.column_stack([np.ones(41), test]) @ weights
        expected = 1 - (error**2).sum() / ((truth - truth.mean()) ** 2).sum()
        assert found[factor] == pytest.approx(expected, rel=1e-10)


def test_active_latents_are_those_that_vary_over_brains():
    means = normal(500, 5) * [1.0, 0.5, 0.11, 0.09, 0.0] + [0, 0, 0, 0, 7.0]
    np.testing.assert_array_equal(active_latents(means), [True, True, True, False, False])


def test_nonsense_is_refused_by_name():
    a, b, c, d = CODES_TRAIN, TRAIN, CODES_TEST, TEST
    cases = [
        (r"codes_train \(299, 5\) and factors_train \(300, 4\)", linear_recovery, a[1:], b, c, d),
        ("codes_train .* codes_test .* one number of col", linear_recovery, a, b, c[:, 1:], d),
        (r"columns \[2\].* over the train brains", linear_recovery, a, b * [1, 1, 0, 1], c, d),
        (r"columns \[0, 2\].* over the test brains", linear_recovery, a, b, c, d * [0, 1, 0, 1]),
        ("4 training brains .* at least 5", linear_recovery, KNOWN[:4], KNOWN[:4], OTHER, OTHER),
    ]
    refused(cases)
