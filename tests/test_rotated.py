"""Models along random axes of their own latents: white codes, the same images."""

import numpy as np
import pytest
from refusals import refused

from brainvae_core.fields import Rotated, projective_field, receptive_field, rotated_fits

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


def covariance(codes):
    return np.cov(codes.astype(float), rowvar=False, ddof=0)


def fitted_map(codes, turned):
    """The linear map from centred codes to turned ones, by least squares."""
    centred = codes - codes.mean(axis=0, dtype=float)
    return np.linalg.lstsq(centred, turned.astype(float), rcond=None)[0]


def test_codes_are_white_with_their_posterior(images):
    original = WithPosterior()
    model = Rotated(original, images, 3)
    mean, std = model.posterior(images)
    _, own_std = original.posterior(images)
    assert np.array_equal(mean, model.encode(images)) and std.shape == mean.shape
    turn = fitted_map(original.encode(images), mean)
    uncertain = turn.T @ np.diag(np.square(own_std.astype(float)).mean(0)) @ turn
    np.testing.assert_allclose(covariance(mean) + uncertain, np.eye(LATENTS), atol=1e-4)
    # Each direction's variance is the sum of the latents' own, by the square of its weights.
    np.testing.assert_allclose(np.square(std), np.square(own_std) @ turn**2, rtol=1e-3)
    assert np.ptp(std, axis=0).min() > 0


def test_other_brains_are_placed_by_the_first_ones(images):
    """The centre and the map are those of the brains that the model was turned for."""
    original = Linear()
    model = Rotated(original, images[:20], 0)
    turn = fitted_map(original.encode(images[:20]), model.encode(images[:20]))
    others = original.encode(images[20:]) - original.encode(images[:20]).mean(0)
    np.testing.assert_allclose(model.encode(images[20:]), others @ turn, atol=1e-4)


@pytest.mark.parametrize("kind", [Linear, WithPosterior])
def test_it_decodes_the_images_of_the_model_itself(images, kind):
    original = kind()
    for seed in range(3):
        model = Rotated(original, images, seed)
        decoded = model.decode(model.encode(images))
        np.testing.assert_allclose(decoded, original.decode(original.encode(images)), atol=1e-4)
    assert np.abs(Rotated(original, images, 1).encode(images) - model.encode(images)).max() > 0.1


def test_latents_that_are_not_active_stay_at_their_mean(images):
    original, active = WithPosterior(), np.array([True, False, True, True])
    model = Rotated(original, images, 0, active)
    codes = original.encode(images)
    assert model.encode(images).shape == model.posterior(images)[1].shape == (N, 3)
    codes[:, 1] = codes[:, 1].mean()
    np.testing.assert_allclose(
        model.decode(model.encode(images)), original.decode(codes), atol=1e-4
    )
    # It is not read either: only the third loading's images move the codes.
    moved = images + 0.5 * original.loadings[1].astype(np.float32)
    np.testing.assert_allclose(model.encode(moved), model.encode(images), atol=1e-4)


@pytest.mark.parametrize("kind", [Linear, WithPosterior])
@pytest.mark.parametrize("active", [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0]])
def test_a_turned_field_is_the_field_of_the_turned_model(images, kind, active):
    active = np.array(active, dtype=bool)
    rois = np.zeros((3, *SHAPE), dtype=bool)
    rois[0, :2, :5] = rois[1, 2:6, 1:3] = rois[2, 3:, 4:] = True
    weights, original = [0.3, 1.6], kind()
    field = receptive_field(original, images, rois, weights, batch_size=8)
    for seed in (0, 7):
        turned = field.rotated(seed, active)
        model = Rotated(original, images, seed, active)
        again = receptive_field(model, images, rois, weights)
        assert turned.divergence.shape == again.divergence.shape == (3, active.sum())
        np.testing.assert_allclose(turned.divergence, again.divergence, rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(turned.stds, again.stds, rtol=1e-3)
        np.testing.assert_allclose(
            turned.missing_information, again.missing_information, rtol=2e-3, atol=1e-5
        )
        assert np.ptp(again.divergence, axis=0).min() > 1e-3


def test_one_axis_has_one_direction(images, monkeypatch):
    """SciPy 1.15, which this project allows, draws no rotation in one dimension."""

    def refuses(dim, random_state=None):
        assert dim > 1
        return np.eye(dim)

    monkeypatch.setattr("brainvae_core.fields.receptive.ortho_group.rvs", refuses)
    original, active = Linear(), np.array([False, False, False, True])
    model = Rotated(original, images, 5, active)
    own = original.encode(images)[:, 3]
    np.testing.assert_allclose(
        np.abs(model.encode(images)[:, 0]), np.abs(own - own.mean()) / own.std(), atol=1e-3
    )
    c = np.linspace(-3, 3, 25)
    field = projective_field(model, np.zeros(1), c)
    np.testing.assert_allclose(
        field.variance_all[0], (original.loadings[3] * own.std()) ** 2 * c.var(), rtol=1e-3
    )


def test_the_floor_holds_directions_that_hardly_vary(images):
    original, still = Linear(), Linear()
    still.reader = original.reader * [1, 0.05, 0, 1]
    variances = np.linalg.eigvalsh(covariance(still.encode(images)))
    assert 1e-4 < variances[1] < 0.01 < variances[2]
    for floor in (0.01, 1.0):
        codes = Rotated(still, images, 0, variance_floor=floor).encode(images)
        np.testing.assert_allclose(
            np.linalg.eigvalsh(covariance(codes)), np.minimum(variances / floor, 1), atol=1e-4
        )


def test_fits_are_named_after_their_models_and_seeded_from_zero(images):
    models = {"PCA": [Linear(0)], "VAE": [Linear(1), Linear(2)]}
    first, all_of_them = np.arange(LATENTS) < 2, np.ones(LATENTS, dtype=bool)
    actives = {"VAE": [first, all_of_them], "PCA": [all_of_them]}
    turned = rotated_fits(models, images, actives, n=2)
    assert list(turned) == ["PCA, random axes", "VAE, random axes"]
    assert [len(fits) for fits in turned.values()] == [2, 4]
    expected = [(models["VAE"][i], seed, actives["VAE"][i]) for i in (0, 1) for seed in (0, 1)]
    for model, (original, seed, active) in zip(turned["VAE, random axes"], expected, strict=True):
        again = Rotated(original, images, seed, active)
        assert np.array_equal(model.encode(images), again.encode(images))
    assert [len(f) for f in rotated_fits(models, images, actives).values()] == [1, 2]
    with pytest.raises(ValueError):
        rotated_fits(models, images, {**actives, "VAE": [first]})


def test_errors_name_what_was_given(images):
    nan = Linear()
    nan.encode = lambda x: np.full((len(x), LATENTS), np.nan)
    flat = Linear()
    flat.encode = lambda x: np.zeros(len(x))
    cases = [
        ("none of the 4 latents is active: ", Linear(), np.zeros(4, dtype=bool)),
        ("active is bool of shape .3,.; give one bool", Linear(), np.ones(3, dtype=bool)),
        ("answered NaN, inf", nan, None),
        ("it must answer .n, latent_dim", flat, None),
    ]
    refused((said, lambda m=m, a=a: Rotated(m, images, 0, a)) for said, m, a in cases)
