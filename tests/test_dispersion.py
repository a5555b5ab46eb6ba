"""Neighbours in latent space: clusters, lattices, Gaussians, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group

from brainvae_core.metrics import clustering, nearest_distances, spread


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


def test_nonsense_is_refused_by_name():
    with pytest.raises(ValueError, match="all the same"):
        clustering(np.ones((5, 3)))
    for measure in (clustering, nearest_distances, spread):
        with pytest.raises(ValueError, match="codes has entries that are not finite"):
            measure(np.full((5, 3), np.nan))
        with pytest.raises(ValueError, match=r"codes is \(1, 3\)"):
            measure(np.ones((1, 3)))
