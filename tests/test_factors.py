"""Factors in codes: perfect, mixed, copied, worthless and degenerate codes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy.stats import entropy, ortho_group
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import mean_squared_error, mutual_info_score
from sklearn.preprocessing import StandardScaler

from brainvae_core.metrics import active_latents, linear_recovery
from brainvae_core.metrics.factors import (
    LEAF,
    TREES,
    dci,
    importance_scores,
    mutual_information,
    mutual_information_gap,
)


def normal(n, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((n, columns))


def mixed(codes, first, second):
    """Two latents turned by 45 degrees."""
    turned = codes.copy()
    turned[:, first] = (codes[:, first] + codes[:, second]) / 2**0.5
    turned[:, second] = (codes[:, first] - codes[:, second]) / 2**0.5
    return turned


# No two sizes are equal, so that a swapped axis fails.
N, FACTORS = 640, normal(640, 3, 1)
CODES = np.column_stack([FACTORS, normal(N, 2, 2)])  # two latents of noise
TRAIN, TEST = normal(300, 4, 3), normal(170, 4, 4)
CODES_TRAIN = np.column_stack([TRAIN, normal(300, 1, 5)])
CODES_TEST = np.column_stack([TEST, normal(170, 1, 6)])

# ---- mutual information gap ----


@pytest.mark.parametrize("bins", [4, 8])
def test_a_second_implementation_of_the_gap_agrees(bins):
    factors = FACTORS @ [[1, 0.3, 0], [0, 1, 0.5], [0.2, 0, 1]]
    codes = CODES + 0.4 * normal(N, 5, 12)
    gaps, information = [], np.empty((5, 3))

    def labels(column):
        return pd.qcut(column, bins, labels=False)

    for j in range(3):
        for i in range(5):
            of_code, of_factor = labels(codes[:, i]), labels(factors[:, j])
            occupied = (pd.crosstab(of_code, of_factor) > 0).to_numpy().sum()
            counted = mutual_info_score(of_code, of_factor)
            information[i, j] = max(counted + (2 * bins - 1 - occupied) / (2 * N), 0)
        best, second = sorted(information[:, j])[::-1][:2]
        gaps.append((best - second) / (np.log(bins) + (bins - 1) / (2 * N)))
    given = {} if bins == 8 else {"bins": bins}
    np.testing.assert_allclose(mutual_information(codes, factors, **given), information, atol=1e-12)
    np.testing.assert_allclose(mutual_information_gap(codes, factors, **given), gaps, atol=1e-12)
    alone = mutual_information_gap(FACTORS[:, 1:2], FACTORS)
    assert alone[1] == pytest.approx(1) and 0 <= alone[[0, 2]].max() < 0.02


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(1e-2, 1e2),
    shift=st.floats(-10, 10),
    sign=st.sampled_from([1, -1]),
    function=st.sampled_from([np.exp, np.cbrt, np.arctan, np.asarray]),
)
def test_monotone_functions_of_a_column_change_nothing(seed, scale, shift, sign, function):
    codes = np.column_stack([normal(160, 2, seed), np.ones(160)])
    factors = np.roll(codes[:, :2], 1, axis=1) + normal(160, 2, seed + 1)
    expected = mutual_information(codes, factors)
    found = mutual_information(sign * scale * function(codes) + shift, -scale * factors - shift)
    np.testing.assert_allclose(found, expected, atol=1e-12)


# ---- dci ----


def dci_of(codes_train, codes_test, **options):
    return dci(codes_train, TRAIN, codes_test, TEST, **options)


def test_dead_and_barely_moving_latents_do_no_harm():
    plain = dci_of(CODES_TRAIN, CODES_TEST)
    tiny = [np.column_stack([1e-9 * c + 0.01, c[:, 0] * 0]) for c in (CODES_TRAIN, CODES_TEST)]
    found = dci(tiny[0], 1e-9 * TRAIN + 0.01, tiny[1], 1e-9 * TEST + 0.01)
    assert (found.importance[5] == 0).all()
    np.testing.assert_allclose(found.importance[:5], plain.importance, atol=0.01)
    assert found.disentanglement == pytest.approx(plain.disentanglement, abs=0.01)
    one_latent = dci_of(TRAIN[:, :1], TEST[:, :1])
    assert one_latent.completeness == 1 and one_latent.disentanglement == pytest.approx(0, abs=1e-9)


def test_a_second_implementation_of_dci_agrees():
    train, test = mixed(CODES_TRAIN, 1, 3), mixed(CODES_TEST, 1, 3)
    train[:, 0] += normal(300, 1, 17)[:, 0]
    test[:, 0] += normal(170, 1, 18)[:, 0]
    found = dci_of(train, test, seed=5)
    scaler, errors = StandardScaler().fit(train), []
    for j in range(4):
        forest = RandomForestRegressor(TREES, min_samples_leaf=LEAF, random_state=5)
        forest.fit(scaler.transform(train), TRAIN[:, j])
        np.testing.assert_allclose(found.importance[:, j], forest.feature_importances_, atol=2e-3)
        error = mean_squared_error(TEST[:, j], forest.predict(scaler.transform(test)))
        errors.append((error / TEST[:, j].var()) ** 0.5)
    assert found.informativeness == pytest.approx(np.mean(errors), rel=2e-3)
    rows = 1 - entropy(found.importance, base=4, axis=1)
    columns = 1 - entropy(found.importance, base=5, axis=0)
    weights = found.importance.sum(axis=1) / 4
    assert found.disentanglement == pytest.approx(np.average(rows, weights=weights))
    assert found.completeness == pytest.approx(columns.mean())


def test_scores_of_a_written_importance_matrix():
    written = np.array([[4.0, 0, 0], [1, 1, 1], [0, 3, 0], [0, 0, 0]])
    disentanglement, completeness = importance_scores(written)
    # Latents score 1, 0, 1 of importance 4, 3, 3; factors are divided 4:1, 1:3 and not at all.
    assert disentanglement == pytest.approx(0.7)
    divided = [entropy([4, 1], base=4), entropy([1, 3], base=4), 0]
    assert completeness == pytest.approx(1 - np.mean(divided))
    assert importance_scores(np.zeros((3, 2))) == (0, 0)
    assert importance_scores(np.array([[1.0, 0], [1, 0]])) == (1, 0)
    assert importance_scores(np.array([[1.0], [0]])) == (1, 1)


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
    means = normal(500, 5) * [1.0, 0.5, 0.2, 0.05, 0.0] + [0, 0, 0, 0, 7.0]
    np.testing.assert_array_equal(active_latents(means), [True, True, True, False, False])
    np.testing.assert_array_equal(active_latents(means, threshold=0.1), [True, True] + [False] * 3)


# ---- what known factors explain ----


def painted(factors, noise=0.0, curved=0.0, seed=0):
    """Images that are a map of two factors, straight or curved, and noise."""
    rng = np.random.default_rng(99)
    straight, bend = rng.random((2, 5, 7)), rng.random((5, 7))
    images = np.tensordot(factors, straight, 1)
    images += curved * (factors[:, 0] * factors[:, 1])[:, None, None] * bend
    images += noise * np.random.default_rng(seed).standard_normal(images.shape)
    return 0.5 + 0.1 * images


def test_the_fewest_brains_are_enough():
    assert linear_recovery(KNOWN[:5], KNOWN[:5], OTHER, OTHER) == pytest.approx([1, 1, 1])
    assert mutual_information(CODES[:128], FACTORS[:128]).shape == (5, 3)
    assert dci(CODES_TRAIN[:20], TRAIN[:20], CODES_TEST, TEST).importance.shape == (5, 4)


def test_nonsense_is_refused_by_name():
    a, b, c, d = CODES_TRAIN, TRAIN, CODES_TEST, TEST
    cases = [
        (r"codes \(639, 5\) and factors \(640, 3\)", mutual_information_gap, CODES[1:], FACTORS),
        (r"columns \[1\].* over the brains", mutual_information, CODES, FACTORS * [1, 0, 1]),
        ("codes has entries that are not", mutual_information, CODES * np.nan, FACTORS),
        ("127 brains are .* at least 128", mutual_information, CODES[:127], FACTORS[:127]),
        ("bins=1 must be a whole number", mutual_information, CODES, FACTORS, 1),
        ("bins=2.5 must be a whole number", mutual_information, CODES, FACTORS, 2.5),
        (r"codes_train \(299, 5\) and factors_train \(300, 4\)", dci, a[1:], b, c, d),
        (r"codes_test \(170, 5\) and factors_test \(169, 4\)", dci, a, b, c, d[1:]),
        ("codes_train .* codes_test .* one number of col", dci, a, b, c[:, 1:], d),
        ("factors_train .* factors_test .* one number of col", dci, a, b, c, d[:, 1:]),
        (r"columns \[2\].* over the train brains", dci, a, b * [1, 1, 0, 1], c, d),
        (r"columns \[0, 2\].* over the test brains", dci, a, b, c, d * [0, 1, 0, 1]),
        ("19 training brains are too few .* at least 20", dci, a[:19], b[:19], c, d),
        ("factors_test has entries that are not finite", dci, a, b, c, d * np.inf),
        ("4 training brains .* at least 5", linear_recovery, KNOWN[:4], KNOWN[:4], OTHER, OTHER),
        ("at least 2 rows", active_latents, KNOWN[:1]),
    ]
    refused(cases)
