"""Precision and recall of samples: known answers, a plain second count, bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from brainvae_core.metrics import sample_precision, sample_recall


def cloud(n=40, d=5, seed=0, spread=1.0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, spread, (n, d))


def both(real, generated, k=3):
    return sample_precision(real, generated, k), sample_recall(real, generated, k)


def counted(real, generated, k):
    """Point by point, ball by ball."""

    def covered(points, balls):
        hits = 0
        for point in points:
            for i, centre in enumerate(balls):
                others = np.delete(balls, i, axis=0)
                radius = sorted(np.sqrt(((others - centre) ** 2).sum(axis=1)))[k - 1]
                if np.sqrt(((point - centre) ** 2).sum()) <= radius:
                    hits += 1
                    break
        return hits / len(points)

    return covered(generated, real), covered(real, generated)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_a_plain_count_agrees(k):
    real, generated = cloud(23, 3), cloud(23, 3, 1, spread=1.4, shift=0.5)
    assert both(real, generated, k) == pytest.approx(counted(real, generated, k))


def test_a_set_and_itself_and_sets_far_apart():
    real = cloud()
    assert both(real, real) == (1, 1)
    assert both(real, real + 100) == (0, 0)


def test_one_good_image_again_and_again_is_precise_and_recalls_little():
    real = cloud(60)
    middle = np.repeat(real.mean(axis=0)[np.newaxis], 60, axis=0)
    assert both(real, middle) == (1, 0)
    nearly = middle + 0.01 * cloud(60, seed=3)
    assert sample_precision(real, nearly) == 1 and sample_recall(real, nearly) < 0.05


def test_too_wide_a_spread_recalls_and_is_not_precise():
    precise, recalled = both(cloud(80, 4), cloud(80, 4, 1, spread=3.0))
    assert recalled > 0.9 and precise < 0.4


def test_two_samples_of_one_distribution_stay_below_1_in_many_dimensions():
    many, few = (sample_precision(cloud(60, d), cloud(60, d, 1)) for d in (24, 2))
    assert few > 0.85 and many < few


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-5, 5))
def test_moving_and_scaling_both_changes_nothing(seed, scale, shift):
    a, b = cloud(15, 3, seed), cloud(15, 3, seed + 1)
    assert both(scale * a + shift, scale * b + shift, 2) == both(a, b, 2)
    assert both(b, a, 2) == both(a, b, 2)[::-1]


def test_nonsense_is_refused_by_name():
    a = cloud(8, 3)
    cases = [
        (r"real \(8, 3\) and generated \(7, 3\)", lambda: sample_precision(a, a[:7])),
        ("k=8 neighbours of 8 images; 1 to 7", lambda: sample_precision(a, a, 8)),
        (
            "generated has entries that are not finite",
            lambda: sample_precision(a, np.where(a == a[0, 0], np.nan, a)),
        ),
    ]
    refused(cases)
