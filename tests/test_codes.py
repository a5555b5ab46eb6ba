"""Codes: which latent is which, neighbours, and tails."""

from itertools import permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from refusals import refused
from scipy.stats import ortho_group

from brainvae_core.metrics import (
    clustering,
    match_latents,
    matching_null,
    nearest_distances,
    sidedness_beyond_chance,
    spread,
    tail_counts,
)
from brainvae_core.metrics.codes import sidedness

# ---- which latent of one fit is which of another ----

N, LATENTS = 60, 5


def codes(seed, n=N, latents=LATENTS):
    return np.random.default_rng(seed).standard_normal((n, latents))


REFERENCE = codes(0)


def white(z):
    """Codes without correlation and of variance 1, by Cholesky rather than by an SVD."""
    centred = z - z.mean(axis=0)
    return np.linalg.solve(np.linalg.cholesky(centred.T @ centred / len(z)), centred.T).T


@given(
    order=st.permutations(range(LATENTS)),
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
    back = (found.sign * (other - other.mean(axis=0))[:, found.order]) / np.abs(sizes)
    np.testing.assert_allclose(back, REFERENCE - REFERENCE.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
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
    nothing = match_latents(np.ones((9, 3)), np.zeros((9, 3)))
    assert sorted(nothing.order) == [0, 1, 2] and not nothing.correlation.any()


# ---- random axes ----


def test_the_null_by_another_way():
    """Gaussian columns made orthonormal are random axes; r is then their own entries."""
    reference = white(codes(5, 40, 3))
    null = matching_null(reference, reference @ codes(6, 3, 3), 1500, seed=0)
    rng, expected = np.random.default_rng(1), []
    for _ in range(1500):
        turn = np.abs(np.linalg.qr(rng.standard_normal((3, 3)))[0])
        best = max(permutations(range(3)), key=lambda p: turn[range(3), p].sum())
        expected.append(turn[range(3), best])
    expected = np.array(expected)
    np.testing.assert_allclose(null.mean(axis=0), expected.mean(axis=0), atol=0.02)
    shares = [0.05, 0.5, 0.95]
    np.testing.assert_allclose(
        np.quantile(null.mean(axis=1), shares),
        np.quantile(expected.mean(axis=1), shares),
        atol=0.02,
    )


def test_a_seed_makes_one_null_whose_draws_differ():
    null = matching_null(REFERENCE, codes(7), 6, seed=2)
    np.testing.assert_array_equal(null, matching_null(REFERENCE, codes(7), 6, seed=2))
    assert not np.allclose(null, matching_null(REFERENCE, codes(7), 6, seed=3))
    assert len(np.unique(null[:, 0])) == 6


def test_dead_latents_are_no_axes_of_the_null():
    reference = codes(10, latents=4)
    dead = reference.copy()
    dead[:, 2] = 0.7
    null = matching_null(reference, dead, 200, seed=0)
    assert ((null < 1e-12).sum(axis=1) == 1).all()  # three axes for four latents
    doubled = matching_null(reference, reference[:, [0, 1, 3, 3]], 200, seed=0)
    np.testing.assert_allclose(null.mean(), doubled.mean(), atol=0.02)
    assert not matching_null(reference, np.ones_like(dead), 2, 0).any()
    one = matching_null(reference[:, :1], reference[:, :1] * -3 + 1, 4, 0)
    np.testing.assert_allclose(one, 1)  # a single axis has nowhere to turn


def test_nonsense_is_refused_by_name():
    cases = [
        (r"\(60, 5\) and codes \(60, 4\)", match_latents, REFERENCE, REFERENCE[:, :4]),
        (r"\(60, 5\) and codes \(59, 5\)", match_latents, REFERENCE, REFERENCE[:59]),
        ("at least 3", match_latents, REFERENCE[:2], REFERENCE[:2]),
        ("codes has entries", match_latents, REFERENCE, REFERENCE * np.nan),
        ("reference has entries", match_latents, REFERENCE * np.inf, REFERENCE),
        (r"reference is \(60,\)", match_latents, REFERENCE[:, 0], REFERENCE),
        (r"\(60, 5\) and codes \(60, 4\)", matching_null, REFERENCE, codes(0, 60, 4), 1, 0),
        ("codes has entries", matching_null, REFERENCE, REFERENCE * np.nan, 1, 0),
    ]
    refused(cases)


# ---- neighbours in latent space ----


def gaussian(n=200, d=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)) * np.linspace(1, 2, d)


def clusters(n=200, d=4, tight=0.05, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, (8, d))[rng.integers(8, size=n)] + rng.normal(0, tight, (n, d))


def test_gaussian_codes_are_at_1_clusters_below_and_a_lattice_above():
    values = [clustering(gaussian(seed=s), seed=1) for s in range(5)]
    np.testing.assert_allclose(values, 1, atol=0.08)
    tighter = [clustering(clusters(tight=t)) for t in (0.3, 0.1, 0.03)]
    assert 0.6 > tighter[0] > tighter[1] > tighter[2]
    lattice = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), axis=-1).reshape(-1, 3)
    assert clustering(lattice) > 1.3


def test_neighbours_and_spread_are_counted_plainly():
    codes = gaussian(23, 3)
    between = np.sqrt(((codes[:, None] - codes) ** 2).sum(axis=2))
    np.fill_diagonal(between, np.inf)
    np.testing.assert_allclose(nearest_distances(codes), between.min(axis=1))
    assert spread(codes) == pytest.approx(np.sqrt(codes.var(axis=0).sum()))


@given(st.integers(0, 99), st.floats(0.01, 100), st.floats(-9, 9))
def test_turning_moving_and_stretching(seed, scale, shift):
    codes = gaussian(30, 3, seed)
    turned = scale * codes @ ortho_group.rvs(3, random_state=seed) + shift
    assert spread(turned) == pytest.approx(scale * spread(codes))
    nearest = scale * nearest_distances(codes)
    np.testing.assert_allclose(nearest_distances(turned), nearest, rtol=1e-6)
    assert clustering(turned) == pytest.approx(clustering(codes), rel=1e-6)


def test_a_latent_that_is_dead_changes_nothing():
    codes = gaussian(50, 3)
    padded = np.column_stack([codes, np.full(50, 0.7)])
    assert clustering(padded) == pytest.approx(clustering(codes), rel=1e-6)


def test_nonsense_has_no_neighbours():
    with pytest.raises(ValueError, match="all the same"):
        clustering(np.ones((5, 3)))
    for measure in (clustering, nearest_distances, spread):
        with pytest.raises(ValueError, match="codes has entries that are not finite"):
            measure(np.full((5, 3), np.nan))
        with pytest.raises(ValueError, match=r"codes is \(1, 3\)"):
            measure(np.ones((1, 3)))


# ---- in which tail unusual brains lie ----


def some_codes(seed=0, n_clean=200, n_unusual=31, latents=3, moved=0.0, scale=1.0):
    """Codes and which of them are of unusual brains, in mixed order."""
    rng = np.random.default_rng(seed)
    unusual = rng.permutation(np.arange(n_clean + n_unusual) < n_unusual)
    z = rng.standard_normal((n_clean + n_unusual, latents))
    z[unusual] = z[unusual] * scale + moved
    return z, unusual


def by_chance(counts):
    """Expected sidedness of random sides, from every way in which brains can be put."""
    ways = [sum(comb(n, k) * abs(n - 2 * k) for k in range(n + 1)) / 2**n for n in counts.sum(1)]
    return sum(ways) / counts.sum()


# ---- counts ----


def test_brains_are_counted_beyond_the_clean_brains_middle():
    clean = np.column_stack([np.arange(101.0), -np.arange(101.0), np.arange(101.0) / 100])
    unusual = np.array([[1, -50, 2], [200, -99, 3], [4, -1, 0.5], [96, 0, 0.97]])
    # Of 0 to 100, the middle 90 % are those from 5 to 95.
    found = tail_counts(clean, unusual, level=0.9)
    np.testing.assert_array_equal(found, [[2, 2], [1, 2], [0, 3]])
    assert found.dtype.kind == "i"
    np.testing.assert_array_equal(tail_counts(clean, unusual), [[1, 1], [1, 2], [0, 2]])
    np.testing.assert_array_equal(tail_counts(clean, unusual[:1]), [[1, 0], [0, 0], [0, 1]])


def test_a_brain_on_the_limit_is_not_beyond_it():
    clean = np.arange(101.0)[:, None]
    np.testing.assert_array_equal(tail_counts(clean, [[5.0], [95.0]], 0.9), [[0, 0]])
    np.testing.assert_array_equal(tail_counts(clean, [[4.9], [95.1]], 0.9), [[1, 1]])


# ---- sidedness ----


def test_sidedness_by_hand():
    assert sidedness(np.array([[0, 5], [7, 0], [0, 0]])) == 1
    assert sidedness(np.array([[5, 5], [2, 2]])) == 0
    assert sidedness(np.array([[1, 3], [6, 2]])) == pytest.approx((2 + 4) / 12)
    assert sidedness(np.zeros((4, 2), dtype=int)) == 0
    assert sidedness(np.array([[3, 0], [2, 2]], dtype=np.uint8)) == pytest.approx(3 / 7)


# ---- beyond chance ----


def test_the_level_is_that_of_the_counts():
    z, unusual = some_codes(2, scale=2.0)
    counts = tail_counts(z[~unusual], z[unusual], 0.5)
    expected = sidedness(counts) - by_chance(counts)
    assert sidedness_beyond_chance(z, unusual, 0.5) == pytest.approx(expected)
    assert sidedness_beyond_chance(z, unusual) != pytest.approx(expected, abs=1e-3)


@given(turned=arrays(np.bool_, 3), sizes=arrays(np.float64, 3, elements=st.floats(0.1, 9)))
def test_signs_scales_and_the_order_of_latents_and_brains_change_nothing(turned, sizes):
    z, unusual = some_codes(3, moved=0.7)
    found = sidedness_beyond_chance(z, unusual)
    other = (z * np.where(turned, -sizes, sizes))[::-1, ::-1]
    assert sidedness_beyond_chance(other, unusual[::-1]) == pytest.approx(found)


def test_nonsense_has_no_tails():
    z, unusual = some_codes(7)
    cases = [
        ("equally many latents", tail_counts, z, z[:, :2]),
        ("level=95", tail_counts, z, z, 95),
        ("level=0", tail_counts, z, z, 0),
        ("level=1", sidedness_beyond_chance, z, unusual, 1),
        ("clean has entries", tail_counts, z * np.nan, z),
        ("unusual has entries", tail_counts, z, z * np.inf),
        (r"clean is \(1, 3\)", tail_counts, z[:1], z),
        (r"unusual is \(0, 3\).*at least 1 rows", tail_counts, z, z[:0]),
        ("codes has entries", sidedness_beyond_chance, z * np.nan, unusual),
        ("unusual is int64", sidedness_beyond_chance, z, unusual.astype(int)),
        (r"shape \(230,\)", sidedness_beyond_chance, z, unusual[:-1]),
        ("some of them true", sidedness_beyond_chance, z, unusual | True),
        ("some of them true", sidedness_beyond_chance, z, unusual & False),
    ]
    refused(cases)
