"""In which tail unusual brains lie: in one, in both, in none."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from refusals import refused

from brainvae_core.metrics import (
    sidedness_beyond_chance,
    tail_counts,
)
from brainvae_core.metrics.codes import sidedness


def codes(seed=0, n_clean=200, n_unusual=31, latents=3, moved=0.0, scale=1.0):
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
    z, unusual = codes(2, scale=2.0)
    counts = tail_counts(z[~unusual], z[unusual], 0.5)
    expected = sidedness(counts) - by_chance(counts)
    assert sidedness_beyond_chance(z, unusual, 0.5) == pytest.approx(expected)
    assert sidedness_beyond_chance(z, unusual) != pytest.approx(expected, abs=1e-3)


@given(turned=arrays(np.bool_, 3), sizes=arrays(np.float64, 3, elements=st.floats(0.1, 9)))
def test_signs_scales_and_the_order_of_latents_and_brains_change_nothing(turned, sizes):
    z, unusual = codes(3, moved=0.7)
    found = sidedness_beyond_chance(z, unusual)
    other = (z * np.where(turned, -sizes, sizes))[::-1, ::-1]
    assert sidedness_beyond_chance(other, unusual[::-1]) == pytest.approx(found)


def test_unusual_brains_all_on_one_side_are_as_far_from_chance_as_can_be():
    z, unusual = codes(4, n_unusual=40, moved=[9, -9, 9])
    expected = 1 - by_chance(np.array([[40, 0]] * 3))
    assert sidedness_beyond_chance(z, unusual) == pytest.approx(expected)
    assert expected == pytest.approx(1 - np.sqrt(2 / np.pi / 40), abs=0.01)


def test_unusual_brains_on_both_sides_lie_below_chance():
    z, unusual = codes(5, n_unusual=40)
    z[unusual] = np.where(np.arange(40) % 2, 9, -9)[:, None]
    found = sidedness_beyond_chance(z, unusual)
    assert found == pytest.approx(-by_chance(np.array([[20, 20]] * 3)))
    assert -0.2 < found < -0.1


def test_brains_in_no_tail_are_at_chance():
    z, unusual = codes(6)
    z[unusual] *= 0.01
    assert sidedness_beyond_chance(z, unusual) == 0


def test_nonsense_is_refused_by_name():
    z, unusual = codes(7)
    cases = [
        ("equally many latents", lambda: tail_counts(z, z[:, :2])),
        ("level=95", lambda: tail_counts(z, z, 95)),
        ("level=0", lambda: tail_counts(z, z, 0)),
        ("level=1", lambda: sidedness_beyond_chance(z, unusual, 1)),
        ("clean has entries", lambda: tail_counts(z * np.nan, z)),
        ("unusual has entries", lambda: tail_counts(z, z * np.inf)),
        (r"clean is \(1, 3\)", lambda: tail_counts(z[:1], z)),
        (r"unusual is \(0, 3\).*at least 1 rows", lambda: tail_counts(z, z[:0])),
        ("codes has entries", lambda: sidedness_beyond_chance(z * np.nan, unusual)),
        ("unusual is int64", lambda: sidedness_beyond_chance(z, unusual.astype(int))),
        (r"shape \(230,\)", lambda: sidedness_beyond_chance(z, unusual[:-1])),
        ("some of them true", lambda: sidedness_beyond_chance(z, unusual | True)),
        ("some of them true", lambda: sidedness_beyond_chance(z, unusual & False)),
    ]
    refused(cases)
