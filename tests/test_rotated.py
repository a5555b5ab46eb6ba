"""Models along random axes of their own latents: white codes, the same images."""

import numpy as np
import pytest

from brainvae_core.fields import Rotated, receptive_field

N, SHAPE, LATENTS = 29, (7, 10), 4


class Linear:
    """Four correlated latents of unequal size; decodes what it encodes."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.mean = rng.uniform(0.3, 0.7, SHAPE)
        self.loadings = rng.normal(0, 0.005, (LATENTS, *SHAPE)) * [[[1]], [[2]], [[4]], [[8]]]
        self.reader = np.linalg.pinv(self.loadings.reshape(LATENTS, -1))

    def encode(self, images):
        return ((images - self.mean).reshape(len(images), -1) @ self.reader).astype(np.float32)

    def decode(self, z):
        return (self.mean + np.tensordot(z, self.loadings, 1)).astype(np.float32)


class WithPosterior(Linear):
    """Stds that differ between latents and brains."""

    def posterior(self, images):
        mean = self.encode(images)
        stds = np.array([0.05, 0.2, 0.1, 0.4]) * (1 + images[:, :1, 0])
        return mean, stds.astype(np.float32)


@pytest.fixture(scope="module")
def images():
    """Brains whose latents are correlated and far from mean 0, with noise besides."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(N, LATENTS)) @ rng.normal(size=(LATENTS, LATENTS)) + [3, -2, 1, 5]
    return Linear().decode(z) + rng.normal(0, 0.005, (N, *SHAPE)).astype(np.float32)


def test_codes_are_white_with_their_posterior(images):
    original = WithPosterior()
    model = Rotated(original, images, 3)
    mean, std = model.posterior(images)
    codes, own_std = original.posterior(images)
    assert np.array_equal(mean, model.encode(images)) and std.shape == mean.shape
    centred = codes - codes.mean(axis=0, dtype=float)
    turn = np.linalg.lstsq(centred, mean.astype(float), rcond=None)[0]
    uncertain = turn.T @ np.diag(np.square(own_std.astype(float)).mean(0)) @ turn
    covariance = np.cov(mean.astype(float), rowvar=False, ddof=0)
    np.testing.assert_allclose(covariance + uncertain, np.eye(LATENTS), atol=1e-4)
    # Each direction's variance is the sum of the latents' own, by the square of its weights.
    np.testing.assert_allclose(np.square(std), np.square(own_std) @ turn**2, rtol=1e-3)


@pytest.mark.parametrize("kind", [Linear, WithPosterior])
def test_it_decodes_the_images_of_the_model_itself(images, kind):
    original = kind()
    for seed in range(3):
        model = Rotated(original, images[:20], seed)  # of other brains too
        decoded = model.decode(model.encode(images))
        np.testing.assert_allclose(decoded, original.decode(original.encode(images)), atol=1e-4)
    other = Rotated(original, images[:20], 1).encode(images)
    assert np.abs(other - model.encode(images)).max() > 0.1
    np.testing.assert_allclose(other[:20].mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("kind", [Linear, WithPosterior])
@pytest.mark.parametrize("active", [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0]])
def test_a_turned_field_is_the_field_of_the_turned_model(images, kind, active, monkeypatch):
    monkeypatch.setattr("brainvae_core.fields.receptive.BATCH", 8)
    active = np.array(active, dtype=bool)
    rois = np.zeros((3, *SHAPE), dtype=bool)
    rois[0, :2, :5] = rois[1, 2:6, 1:3] = rois[2, 3:, 4:] = True
    weights, original = [0.3, 1.6], kind()
    field = receptive_field(original, images, rois, weights)
    turned = field.rotated(7, active)
    again = receptive_field(Rotated(original, images, 7, active), images, rois, weights)
    assert turned.divergence.shape == again.divergence.shape == (3, active.sum())
    np.testing.assert_allclose(turned.divergence, again.divergence, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(turned.stds, again.stds, rtol=1e-3)


def test_one_axis_has_one_direction(images, monkeypatch):
    """SciPy 1.15, which this project allows, draws no rotation in one dimension."""
    monkeypatch.setattr("brainvae_core.fields.receptive.ortho_group.rvs", None)
    own = Linear().encode(images)[:, 3]
    found = Rotated(Linear(), images, 5, np.arange(LATENTS) == 3).encode(images)[:, 0]
    np.testing.assert_allclose(np.abs(found), np.abs(own - own.mean()) / own.std(), atol=1e-3)
