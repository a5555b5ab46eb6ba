"""Codes: which latent is which, planted factors, neighbours, and tails."""

from itertools import permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy.stats import ortho_group

from brainvae_core.metrics import (
    active_latents,
    clustering,
    linear_recovery,
    match_latents,
    matching_null,
    nearest_distances,
    outlier_score,
    sidedness_beyond_chance,
    spread,
)
from brainvae_core.metrics.codes import sidedness, tail_counts

# ---- which latent of one fit is which of another ----


def codes(seed, n=60, latents=5):
    return np.random.default_rng(seed).standard_normal((n, latents))


REFERENCE = codes(0)


@pytest.mark.parametrize("seed", range(4))
def test_against_every_one_of_the_24_pairings(seed):
    a, b = codes(seed, 9, 4), codes(seed + 100, 9, 4) + 0.5 * codes(seed, 9, 4)[:, [1, 3, 0, 2]]
    r = np.array([[np.corrcoef(x, y)[0, 1] for y in b.T] for x in a.T])
    best = max(permutations(range(4)), key=lambda p: np.abs(r[range(4), p]).sum())
    found = match_latents(a, b)
    assert tuple(found.order) == best
    np.testing.assert_allclose(found.sign * found.correlation, r[range(4), best], atol=1e-12)


def test_dead_latents_are_left_for_dead_latents():
    a, b = REFERENCE.copy(), REFERENCE[:, [3, 0, 4, 1, 2]].copy()
    a[:, 1], b[:, 3] = 1234.567, np.float32(0.3)  # of one and the same latent
    found = match_latents(a, b)
    np.testing.assert_array_equal(found.order, [1, 3, 4, 0, 2])
    np.testing.assert_allclose(found.correlation, [1, 0, 1, 1, 1], atol=1e-12)
    assert found.sign[1] == 1
    a[:, 1] += 1e-13 * codes(3)[:, 0] * a[:, 1]  # what summing in another order leaves
    assert match_latents(a, a).correlation[1] == 0


def test_the_null_by_another_way():
    """Gaussian columns made orthonormal are random axes; r is then their own entries."""
    centred = codes(5, 40, 3) - codes(5, 40, 3).mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(centred.T @ centred / 40), centred.T).T
    null = matching_null(white, white @ codes(6, 3, 3), 1500, seed=0)
    rng, expected = np.random.default_rng(1), []
    for _ in range(1500):
        turn = np.abs(np.linalg.qr(rng.standard_normal((3, 3)))[0])
        best = max(permutations(range(3)), key=lambda p: turn[range(3), p].sum())
        expected.append(turn[range(3), best])
    expected, shares = np.array(expected), [0.05, 0.5, 0.95]
    np.testing.assert_allclose(null.mean(axis=0), expected.mean(axis=0), atol=0.02)
    quantiles = (np.quantile(draws.mean(axis=1), shares) for draws in (null, expected))
    np.testing.assert_allclose(*quantiles, atol=0.02)


def test_dead_latents_are_no_axes_of_the_null():
    reference = codes(10, latents=4)
    dead = reference.copy()
    dead[:, 2] = 0.7
    null = matching_null(reference, dead, 200, seed=0)
    assert ((null < 1e-12).sum(axis=1) == 1).all()  # three axes for four latents
    doubled = matching_null(reference, reference[:, [0, 1, 3, 3]], 200, seed=0)
    np.testing.assert_allclose(null.mean(), doubled.mean(), atol=0.02)
    one = matching_null(reference[:, :1], reference[:, :1] * -3 + 1, 4, 0)
    np.testing.assert_allclose(one, np.ones((4, 1)))  # a single axis has nowhere to turn
    two = matching_null(reference[:, :2], reference[:, :2], 200, 0)
    assert two.mean() == pytest.approx(0.9, abs=0.02)  # of |cos| up to 45° on either side
    again, other = (matching_null(reference, dead, 200, seed) for seed in (0, 1))
    assert np.array_equal(null, again) and not np.allclose(null, other)


# ---- recovery of planted factors and active latents ----


def normal(n, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((n, columns))


KNOWN, OTHER = normal(60, 3, 1), normal(41, 3, 2)


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


# ---- neighbours in latent space ----


def gaussian(n=200, d=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)) * np.linspace(1, 2, d)


def test_neighbours_spread_and_clustering_are_counted_plainly():
    codes = gaussian(23, 3) + 2
    between = np.sqrt(((codes[:, None] - codes) ** 2).sum(axis=2))
    np.fill_diagonal(between, np.inf)
    np.testing.assert_allclose(nearest_distances(codes), between.min(axis=1))
    assert spread(codes) == pytest.approx(np.sqrt(codes.var(axis=0).sum()))
    rng, root = np.random.default_rng(0), (codes - codes.mean(axis=0)) / 22**0.5
    samples = [rng.standard_normal((23, 23)) @ root for _ in range(20)]
    expected = np.mean([nearest_distances(sample) for sample in samples])
    assert clustering(codes) == pytest.approx(between.min(axis=1).mean() / expected)
    padded = np.column_stack([codes, np.full(23, 0.7)])  # of singular covariance
    turned = 7 * padded @ ortho_group.rvs(4, random_state=0) - 3
    assert clustering(turned) == pytest.approx(clustering(padded)) == clustering(codes)


# ---- unusual brains: how far out, and in which tail ----


def test_training_codes_score_their_number_and_others_more():
    rng = np.random.default_rng(0)
    train = rng.standard_normal((400, 3)) * [1, 5, 0.1] + [3, 0, 1]
    assert outlier_score(train, train).mean() == pytest.approx(3, rel=0.01)
    away = train[:5] + 10 * train.std(axis=0)
    assert (outlier_score(train, away) > 100).all()
    assert outlier_score(train[:5], away).shape == (5,)  # the fewest brains that span 3 latents
    covariance = np.cov(train.T)
    rest = away - train.mean(axis=0)
    wanted = (rest @ np.linalg.inv(covariance) * rest).sum(axis=1)
    np.testing.assert_allclose(outlier_score(train, away), wanted, rtol=1e-9)


def some_codes(seed, scale=1.0):
    """Codes and which of them are of unusual brains, in mixed order."""
    rng = np.random.default_rng(seed)
    unusual = rng.permutation(np.arange(231) < 31)
    z = rng.standard_normal((231, 3))
    z[unusual] *= scale
    return z, unusual


def test_brains_are_counted_beyond_the_clean_brains_middle():
    clean = np.column_stack([np.arange(101.0), -np.arange(101.0), np.arange(101.0) / 100])
    unusual = np.array([[1, -50, 2], [200, -99, 3], [4, -1, 0.5], [96, 0, 0.97]])
    # Of 0 to 100, the middle 95 % are those from 2.5 to 97.5.
    np.testing.assert_array_equal(tail_counts(clean, unusual), [[1, 1], [1, 2], [0, 2]])
    np.testing.assert_array_equal(tail_counts(clean, unusual[:1]), [[1, 0], [0, 0], [0, 1]])
    one = np.arange(101.0)[:, None]  # a brain on the limit is not beyond it
    np.testing.assert_array_equal(tail_counts(one, [[2.51], [97.49]]), [[0, 0]])
    np.testing.assert_array_equal(tail_counts(one, [[2.49], [97.51]]), [[1, 1]])


def test_sidedness_by_hand():
    assert sidedness(np.array([[0, 5], [7, 0], [0, 0]])) == 1
    assert sidedness(np.array([[5, 5], [2, 2]])) == 0
    assert sidedness(np.array([[1, 3], [6, 2]])) == pytest.approx((2 + 4) / 12)
    assert sidedness(np.zeros((4, 2), dtype=int)) == 0
    assert sidedness(np.array([[3, 0], [2, 2]], dtype=np.uint8)) == pytest.approx(3 / 7)


def test_what_is_beyond_chance_is_counted_from_every_way_in_which_brains_can_be_put():
    z, unusual = some_codes(2, scale=2.0)
    counts = tail_counts(z[~unusual], z[unusual])
    ways = [sum(comb(n, k) * abs(n - 2 * k) for k in range(n + 1)) / 2**n for n in counts.sum(1)]
    expected = sidedness(counts) - sum(ways) / counts.sum()
    assert sidedness_beyond_chance(z, unusual) == pytest.approx(expected)


def test_nonsense_is_refused_by_name():
    z, unusual = some_codes(7)
    a, b, c, d = (normal(*size) for size in ((300, 5), (300, 4), (170, 5), (170, 4)))
    few = z[:4]
    cases = [
        (r"codes_train \(299, 5\) and factors_train \(300, 4\)", linear_recovery, a[1:], b, c, d),
        ("codes_train .* codes_test .* one number of col", linear_recovery, a, b, c[:, 1:], d),
        (r"columns \[2\].* over the train brains", linear_recovery, a, b * [1, 1, 0, 1], c, d),
        (r"columns \[0, 2\].* over the test brains", linear_recovery, a, b, c, d * [0, 1, 0, 1]),
        ("4 training brains .* at least 5", linear_recovery, KNOWN[:4], KNOWN[:4], OTHER, OTHER),
        (r"codes \(60, 4\) and reference \(60, 5\)", match_latents, REFERENCE, REFERENCE[:, :4]),
        (r"reference is \(60,\)", match_latents, REFERENCE[:, 0], REFERENCE),
        ("all the same", clustering, np.ones((5, 3))),
        ("codes has entries that are not finite", nearest_distances, np.full((5, 3), np.nan)),
        ("one number of columns", outlier_score, z, z[:, :2]),
        ("4 training brains do not span 3 latents", outlier_score, few, z),
        ("a sum of others", outlier_score, z[:, [0, 1, 0]], z),
        ("unusual is int64", sidedness_beyond_chance, z, unusual.astype(int)),
        ("some of them true", sidedness_beyond_chance, z, unusual & False),
    ]
    refused(cases)


@given(
    order=st.permutations(range(5)),
    sizes=st.lists(st.sampled_from([-30, -1, -1e-5, 1e-14, 0.5, 1]), min_size=5, max_size=5),
    shift=st.floats(-100, 100),
)
def test_another_order_sign_scale_and_mean_are_seen_through(order, sizes, shift):
    other = np.empty_like(REFERENCE)
    other[:, order] = REFERENCE * sizes + shift * np.abs(sizes)
    found = match_latents(REFERENCE, other)
    np.testing.assert_array_equal(found.order, order)
    np.testing.assert_array_equal(found.sign, np.sign(sizes))
    np.testing.assert_allclose(found.correlation, 1, atol=1e-9)
    assert found.correlation.max() <= 1


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
