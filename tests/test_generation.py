"""Codes of the aggregate posterior: whose they are, and how uncertain."""

import numpy as np
import pytest

from brainvae_core.metrics import aggregate_codes

IMAGES = np.random.default_rng(0).random((5, 4, 6)).astype(np.float32)


class Points:
    def encode(self, images):
        return np.stack([images.mean(axis=(1, 2)), images[:, 0, 0]], axis=1)


class Clouds(Points):
    def posterior(self, images):
        return self.encode(images), np.full((len(images), 2), [0.5, 0.0])


def test_without_a_posterior_they_are_codes_of_brains_each_as_often_as_another():
    codes = aggregate_codes(Points(), IMAGES, 5000)
    own = Points().encode(IMAGES)
    which = np.abs(codes[:, None] - own).max(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(codes, own[which])
    np.testing.assert_allclose(np.bincount(which) / 5000, 0.2, atol=0.03)


def test_with_one_its_noise_is_drawn():
    codes = aggregate_codes(Clouds(), IMAGES, 20000)
    own = Points().encode(IMAGES)
    assert codes.dtype == np.float32 and codes.shape == (20000, 2)
    assert codes[:, 0].var() == pytest.approx(own[:, 0].var() + 0.25, rel=0.05)
    assert set(codes[:, 1]) <= set(own[:, 1])


def test_draws_follow_from_the_seed():
    first, again, other = (aggregate_codes(Clouds(), IMAGES, 7, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_nonsense_is_refused_by_name():
    with pytest.raises(ValueError, match="n=0: draw at least 1"):
        aggregate_codes(Points(), IMAGES, 0)
    with pytest.raises(ValueError, match="images is"):
        aggregate_codes(Points(), IMAGES[:0], 3)
