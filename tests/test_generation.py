"""Codes of the aggregate posterior: whose they are, and how uncertain."""

import numpy as np
import pytest

from brainvae_core.metrics import aggregate_codes, beside, generated_scores, pca_basis

IMAGES = np.random.default_rng(0).random((5, 4, 6)).astype(np.float32)
OTHERS = 1 + np.random.default_rng(1).random((4, 4, 6)).astype(np.float32)


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


class Painter(Clouds):
    latent_dim = 2

    def decode(self, z):
        return np.ones((len(z), 4, 6)) * z[:, :1, None] + 0.1 * z[:, 1:, None]


def test_images_of_three_kinds_are_as_many_scores_in_the_basis():
    basis = pca_basis(IMAGES, 3)
    found = generated_scores(Painter(), basis, OTHERS, IMAGES, seed=3)
    assert {kind: scores.shape for kind, scores in found.items()} == dict.fromkeys(
        ("reconstructions", "prior samples", "aggregate posterior"), (4, 3)
    )
    no_prior = generated_scores(Painter(), basis, OTHERS, IMAGES, has_prior=False)
    assert set(no_prior) == {"reconstructions", "aggregate posterior"}
    again = generated_scores(Painter(), basis, OTHERS, IMAGES, seed=3)
    np.testing.assert_array_equal(again["prior samples"], found["prior samples"])


def test_others_are_reconstructed_and_the_aggregate_posterior_is_of_training_brains():
    model, basis = Painter(), pca_basis(IMAGES, 3)
    found = generated_scores(model, basis, OTHERS, IMAGES, seed=3)
    codes = {
        "reconstructions": model.encode(OTHERS),
        "aggregate posterior": aggregate_codes(model, IMAGES, len(OTHERS), seed=3),
    }
    for kind, z in codes.items():
        np.testing.assert_allclose(found[kind], basis.project(model.decode(z)), err_msg=kind)


def test_a_latents_prior_is_standard_normal():
    basis = pca_basis(IMAGES, 1)
    found = generated_scores(Painter(), basis, np.repeat(OTHERS, 5000, axis=0), IMAGES)
    prior = found["prior samples"] - basis.project(Painter().decode(np.zeros((1, 2))))
    one_step = np.abs(basis.components.sum()) * np.hypot(1, 0.1)
    assert prior.std() == pytest.approx(one_step, rel=0.02)
    assert prior.mean() == pytest.approx(0, abs=0.03 * one_step)


def test_generated_scores_stand_beside_the_real_ones_by_kind():
    real = np.zeros((4, 3))
    fit = {"reconstructions": 1, "prior samples": 2, "aggregate posterior": 3}
    found = beside(real, {"VAE": {8: [fit, fit]}})
    assert [g for _, g in found["prior samples"]["VAE"][8]] == [2, 2]
    assert all(r is real for by in found.values() for r, _ in by["VAE"][8])
    without = {"reconstructions": 1, "aggregate posterior": 3}
    found = beside(real, {"VAE": [fit], "NMF": [without]})
    assert list(found["prior samples"]) == ["VAE"] and len(found["reconstructions"]) == 2


def test_nonsense_is_refused_by_name():
    with pytest.raises(ValueError, match="n=0: draw at least 1"):
        aggregate_codes(Points(), IMAGES, 0)
    with pytest.raises(ValueError, match="images is"):
        aggregate_codes(Points(), IMAGES[:0], 3)
