"""Which latent of one fit is which of another: another order, unrelated codes, dead latents."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from brainvae_core.metrics import match_latents, matching_null

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


@given(seed=st.integers(0, 2**16))
def test_a_pairing_is_one_to_one_and_the_same_from_either_side(seed):
    a, b = codes(seed, 20, 6), codes(seed + 1, 20, 6)
    there, back = match_latents(a, b), match_latents(b, a)
    assert sorted(there.order) == list(range(6))
    np.testing.assert_array_equal(back.order[there.order], range(6))
    np.testing.assert_allclose(back.correlation[there.order], there.correlation)
    np.testing.assert_array_equal(back.sign[there.order], there.sign)
    assert set(there.sign) <= {-1, 1} and (there.correlation >= 0).all()


def test_unrelated_codes_have_little_in_common():
    few, many = (
        np.mean([match_latents(codes(s, n), codes(s + 50, n)).correlation for s in range(20)])
        for n in (20, 2000)
    )
    assert many < 0.04 < 0.2 < few  # by chance alone, more where brains are few


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
        (r"\(60, 5\) and codes \(60, 4\)", lambda: match_latents(REFERENCE, REFERENCE[:, :4])),
        (r"\(60, 5\) and codes \(59, 5\)", lambda: match_latents(REFERENCE, REFERENCE[:59])),
        ("at least 3", lambda: match_latents(REFERENCE[:2], REFERENCE[:2])),
        ("codes has entries", lambda: match_latents(REFERENCE, REFERENCE * np.nan)),
        ("reference has entries", lambda: match_latents(REFERENCE * np.inf, REFERENCE)),
        (r"reference is \(60,\)", lambda: match_latents(REFERENCE[:, 0], REFERENCE)),
        (r"\(60, 5\) and codes \(60, 4\)", lambda: matching_null(REFERENCE, codes(0, 60, 4), 1, 0)),
        ("codes has entries", lambda: matching_null(REFERENCE, REFERENCE * np.nan, 1, 0)),
    ]
    refused(cases)
