"""Recovery of planted factors and active latents: perfect, worthless and degenerate codes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy.stats import ortho_group
from sklearn.linear_model import LinearRegression

from brainvae_core.metrics import active_latents, explained_by_factors, linear_recovery


def planted(n, n_factors=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, n_factors))


TRAIN, TEST = planted(60, seed=1), planted(41, seed=2)


def test_factors_themselves_are_recovered():
    np.testing.assert_allclose(linear_recovery(TRAIN, TRAIN, TEST, TEST), 1, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_rotated_scaled_and_shifted_codes_hold_the_same(seed, scale, shift):
    rotation = ortho_group.rvs(3, random_state=seed) * scale
    found = linear_recovery(TRAIN @ rotation + shift, TRAIN, TEST @ rotation + shift, TEST)
    np.testing.assert_allclose(found, 1, atol=1e-6)


def test_permuted_latents_keep_the_order_of_factors():
    train, test = TRAIN[:, [2, 0]], TEST[:, [2, 0]]  # the code lacks factor 1
    found = linear_recovery(train, TRAIN, test, TEST)
    np.testing.assert_allclose(found[[0, 2]], 1, atol=1e-12)
    assert found[1] < 0.1


def test_unrelated_codes_recover_nothing():
    found = linear_recovery(planted(60, 5, 8), TRAIN, planted(41, 5, 9), TEST)
    assert (found < 0.15).all()


def test_noise_of_equal_variance_halves_the_recovery():
    train, test = planted(4000, seed=3), planted(3000, seed=4)
    found = linear_recovery(
        train + planted(4000, seed=5), train, test + planted(3000, seed=6), test
    )
    np.testing.assert_allclose(found, 0.5, atol=0.05)


def test_a_second_implementation_agrees():
    train, test = planted(60, 4, 7), planted(41, 4, 8)
    train[:, :3] += TRAIN
    test[:, :3] += TEST
    found = linear_recovery(train, TRAIN, test, TEST)
    for factor in range(3):
        design = np.column_stack([np.ones(60), train])
        weights = np.linalg.solve(design.T @ design, design.T @ TRAIN[:, factor])
        truth = TEST[:, factor]
        error = truth - np.column_stack([np.ones(41), test]) @ weights
        expected = 1 - (error**2).sum() / ((truth - truth.mean()) ** 2).sum()
        assert found[factor] == pytest.approx(expected, rel=1e-10)


def test_dead_and_duplicated_latents_do_no_harm():
    def widened(codes):
        dead = np.full((len(codes), 1), 0.3)
        return np.column_stack([codes, dead, codes[:, :1], 2 * codes[:, 1:2] + 1])

    found = linear_recovery(widened(TRAIN), TRAIN, widened(TEST), TEST)
    np.testing.assert_allclose(found, 1, atol=1e-9)


def test_a_code_of_dead_latents_recovers_nothing():
    dead_train, dead_test = np.zeros((60, 4)), np.zeros((41, 4))
    found = linear_recovery(dead_train, TRAIN, dead_test, TEST)
    assert (found <= 0).all() and (found > -0.2).all()


def test_float32_codes_will_do():
    found = linear_recovery(TRAIN.astype(np.float32), TRAIN, TEST.astype(np.float32), TEST)
    np.testing.assert_allclose(found, 1, atol=1e-9)


def test_active_latents_are_those_that_vary_over_brains():
    means = planted(500, 5) * [1.0, 0.5, 0.2, 0.05, 0.0] + [0, 0, 0, 0, 7.0]
    np.testing.assert_array_equal(active_latents(means), [True, True, True, False, False])
    np.testing.assert_array_equal(active_latents(means, threshold=0.1), [True, True] + [False] * 3)
    assert active_latents(means).dtype == bool


def test_nonsense_is_refused_by_name():
    constant = TRAIN * [1, 0, 1]
    cases = [
        (r"factor columns \[1\].*training", lambda: linear_recovery(TRAIN, constant, TEST, TEST)),
        (
            r"factor columns \[1\].*test",
            lambda: linear_recovery(TRAIN, TRAIN, TEST, TEST * [1, 0, 1]),
        ),
        (
            r"codes_train \(60, 3\).*factors_train \(41, 3\)",
            lambda: linear_recovery(TRAIN, TEST, TEST, TEST),
        ),
        ("codes_test .* equal columns", lambda: linear_recovery(TRAIN, TRAIN, TEST[:, :2], TEST)),
        (
            "4 training brains .* at least 5",
            lambda: linear_recovery(TRAIN[:4], TRAIN[:4], TEST, TEST),
        ),
        (
            "codes_train has entries that are not finite",
            lambda: linear_recovery(TRAIN * np.nan, TRAIN, TEST, TEST),
        ),
        (r"codes_train is \(60,\)", lambda: linear_recovery(TRAIN[:, 0], TRAIN, TEST, TEST)),
        ("at least 2 rows", lambda: active_latents(TRAIN[:1])),
    ]
    refused(cases)


def painted(factors, noise=0.0, curved=0.0, seed=0):
    """Images that are a map of two factors, straight or curved, and noise."""
    rng = np.random.default_rng(99)
    straight, bend = rng.random((2, 5, 7)), rng.random((5, 7))
    images = (
        np.tensordot(factors, straight, 1)
        + curved * (factors[:, 0] * factors[:, 1])[:, None, None] * bend
    )
    return images + noise * np.random.default_rng(seed).standard_normal(images.shape)


def test_what_is_linear_in_the_factors_is_explained_whole_and_what_is_curved_by_degree_2():
    a, b = planted(80, 2, 1), planted(50, 2, 2)
    assert explained_by_factors(a, painted(a), b, painted(b)) == pytest.approx(1)
    sides = (a, painted(a, curved=1.0), b, painted(b, curved=1.0))
    linear, quadratic = (explained_by_factors(*sides, degree=d) for d in (1, 2))
    assert linear < 0.9 and quadratic == pytest.approx(1)


def test_noise_is_explained_by_nothing():
    a, b = planted(400, 2, 1), planted(300, 2, 2)
    noise = explained_by_factors(a, painted(0 * a, 1.0), b, painted(0 * b, 1.0, seed=1))
    assert -0.05 < noise < 0.01
    half = explained_by_factors(a, painted(a, 1.0), b, painted(b, 1.0, seed=1))
    signal = painted(b).var(axis=0).sum()
    assert half == pytest.approx(signal / (signal + 35), abs=0.05)


def test_what_is_explained_is_counted_from_the_training_mean():
    a, b = planted(80, 2, 1), planted(50, 2, 2) + [1.5, -1]
    train, test = painted(a, 0.5), painted(b, 0.5, seed=1)
    linear = LinearRegression().fit(a, train.reshape(80, -1))
    rest = test - linear.predict(b).reshape(test.shape)
    wanted = 1 - np.square(rest).sum() / np.square(test - train.mean(axis=0)).sum()
    assert explained_by_factors(a, train, b, test) == pytest.approx(wanted)


def test_factors_that_do_not_fit_their_images_are_refused():
    a, b = planted(20, 2, 1), planted(10, 2, 2)
    cases = [
        (
            "degree=3 must be 1 or 2",
            lambda: explained_by_factors(a, painted(a), b, painted(b), degree=3),
        ),
        (
            "factors_test and images_test have 9 and 10 brains",
            lambda: explained_by_factors(a, painted(a), b[:9], painted(b)),
        ),
        (
            "5 training brains and 6 coefficients",
            lambda: explained_by_factors(a[:5], painted(a[:5]), b, painted(b), degree=2),
        ),
    ]
    refused(cases)
