"""Baselines: the contract that all of them keep, and what each is known to answer."""

import warnings
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA as TheirPCA
from sklearn.linear_model import LinearRegression
from small_brains import Brains, fit_alone
from threadpoolctl import threadpool_limits

from brainvae_core.models import (
    BASELINES,
    PCA,
    LinearGaussian,
    NearestBrain,
    PCAConfig,
    fit,
    load_run,
)
from brainvae_core.models.baselines import NOISE_FLOOR

SHAPE = (6, 11)
BORDER = 2  # columns that are black in every brain


def sections(n=40, seed=0, noise=0.02):
    """Sections that differ in five directions and in noise, with a black border."""
    maps = np.random.default_rng(99).normal(size=(5, *SHAPE))
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(n, 5)) * 0.7 ** np.arange(5)
    images = 0.5 + 0.06 * np.einsum("nk,khw->nhw", weights, maps)
    images += noise * rng.normal(size=images.shape)
    images[:, :, :BORDER] = 0
    return np.clip(images, 0, 1).astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Matrices are tiny here: on busy cores, threads would mostly wait for each other."""
    with threadpool_limits(1):
        yield


TRAIN, VALIDATION, IMAGES = sections(40, 0), sections(9, 1), sections(7, 2)
WITH_LATENTS = [kind for kind in BASELINES if fields(BASELINES[kind])]


def configuration(kind, latent_dim=3):
    return BASELINES[kind](latent_dim) if kind in WITH_LATENTS else BASELINES[kind]()


@pytest.fixture(params=BASELINES)
def config(request):
    return configuration(request.param)


@pytest.fixture
def model(config):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return fit_alone(config, TRAIN, VALIDATION).model


# ---- the contract ----


def test_codes_and_images_are_float32_of_the_shapes_that_are_said(model, config):
    assert model.latent_dim == config.latent_dim and model.image_shape == SHAPE
    z = model.encode(IMAGES.astype(np.float64))
    assert z.shape == (7, config.latent_dim) and z.dtype == np.float32
    decoded = model.decode(z.astype(np.float64))
    assert decoded.shape == (7, *SHAPE) and decoded.dtype == np.float32
    assert np.isfinite(z).all() and np.isfinite(decoded).all()
    assert np.array_equal(model.reconstruct(IMAGES), decoded)
    assert np.abs(decoded[:, :, :BORDER]).max() < 1e-6
    # An image is encoded alike whatever stands beside it.
    np.testing.assert_allclose(model.encode(IMAGES[4:5])[0], z[4], atol=1e-4)
    assert model.encode(IMAGES[:0]).shape == (0, model.latent_dim)
    assert model.decode(z[:0]).shape == (0, *SHAPE)


def test_wrong_images_and_codes_are_refused_in_one_line(model, config):
    n, flat, alike = model.latent_dim, TRAIN.reshape(40, -1), np.repeat(IMAGES[:1], 6, axis=0)
    spoiled, bad = IMAGES.copy(), TRAIN.copy()
    spoiled[3, 0, 5], bad[5, 2, 3] = np.nan, np.inf
    swapped, wide = IMAGES.transpose(0, 2, 1), np.zeros((2, n + 1))
    cases = [
        (r"shape \(7, 11, 6\); this model takes \(n, 6, 11\)", model.encode, swapped),
        (r"shape \(6, 11\); this model takes \(n, 6, 11\)", model.encode, IMAGES[0]),
        ("image 3 of 7 has a NaN or infinite pixel", model.encode, spoiled),
        (rf"codes have shape .*; this model takes \(n, {n}\)", model.decode, wide),
        ("image 5 of 40 has a NaN", fit_alone, config, bad, VALIDATION),
        ("1 training images; a fit needs at least 2", fit_alone, config, TRAIN[:1], VALIDATION),
        ("6 validation images are all the same", fit_alone, config, TRAIN, alike),
        (r"\(40, 66\); this model takes \(n, height, w", fit_alone, config, flat, VALIDATION),
    ]
    of_nan = ("codes hold a NaN or infinite value", model.decode, np.full((2, n), np.nan))
    refused([*cases, of_nan] if n else cases)


def test_a_run_comes_back_bit_by_bit(config, tmp_path):
    run = fit(Brains(TRAIN, VALIDATION), config, tmp_path, "cpu")
    again = load_run(run.folder)
    assert again.config == config and type(again.model) is type(run.model)
    direct, history, *_ = fit_alone(config, TRAIN, VALIDATION)
    for images in (TRAIN, IMAGES):
        assert np.array_equal(again.model.reconstruct(images), direct.reconstruct(images))
        assert np.array_equal(again.model.encode(images), direct.encode(images))
    gap = np.square(direct.reconstruct(VALIDATION).astype(np.float64) - VALIDATION).sum()
    total = np.square(VALIDATION.astype(np.float64) - VALIDATION.mean(0)).sum()
    explained = pytest.approx(1 - gap / total, rel=1e-4)
    row = {"step": 0, "explained_variance": explained, "active_latents": config.latent_dim}
    assert again.history == history == [row]
    for name, tensor in direct.tensors().items():
        assert tensor.dtype == np.float32 and tensor.flags["C_CONTIGUOUS"], name


# ---- PCA ----


def test_what_images_do_not_have_is_refused_with_what_they_have():
    equal, few = np.repeat(varied(1), 9, axis=0), TRAIN[:5]
    whole = PCA.fit(varied(), 6)
    cases = [
        *[(f"latent_dim={n}: 5 images have 1 to 4 comp", PCA.fit, few, n) for n in (0, -1, 5)],
        ("latent_dim=2.5 must be a whole number", PCAConfig, 2.5),
        *[(f"latent_dim={n}: this fit has 1 to 6", whole.truncated, n) for n in (0, 7)],
        ("17 images differ in only 3 directions", PCA.fit, varied(rank=3), 4),
        ("9 images differ in only 0 directions", LinearGaussian.fit_ppca, equal, 2),
    ]
    refused(cases)
    assert np.isfinite(PCA.fit(few, 4).reconstruct(IMAGES)).all()
    assert PCA.fit(varied(rank=3), 3).latent_dim == 3


def varied(n=17, rank=9, shape=SHAPE, seed=0):
    """Images around a grey, differing in ``rank`` directions of falling variance."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(rank, *shape)) / np.sqrt(np.prod(shape))
    weights = rng.normal(size=(n, rank)) * 0.7 ** np.arange(rank)
    return (0.5 + 0.3 * np.einsum("nr,rhw->nhw", weights, maps)).astype(np.float32)


def svd(images, latent_dim):
    """Mean, components (largest entry positive) and variances by another road."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    _, s, rows = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    rows = rows[:latent_dim]
    signs = np.sign([row[np.abs(row).argmax()] for row in rows])
    components = (rows * signs[:, None]).reshape(latent_dim, *images.shape[1:])
    return flat.mean(0).reshape(images.shape[1:]), components, s[:latent_dim] ** 2 / (len(flat) - 1)


@pytest.mark.promise("PCA is exact")
@pytest.mark.parametrize(("n", "shape"), [(17, SHAPE), (40, (5, 4))])
def test_it_is_the_singular_value_decomposition(n, shape):
    images = varied(n, shape=shape)
    fit = PCA.fit(images, 7).truncated(5)
    mean, components, variances = svd(images, 5)
    np.testing.assert_allclose(fit.mean, mean, atol=1e-6)
    np.testing.assert_allclose(fit.variances, variances, rtol=1e-3)
    np.testing.assert_allclose(fit.components, components, atol=2e-3)
    others = varied(7, shape=shape, seed=1)
    scores = (others - mean).reshape(7, -1) @ components.reshape(5, -1).T
    np.testing.assert_allclose(fit.encode(others), scores / np.sqrt(variances), atol=1e-2)
    back = mean + (scores @ components.reshape(5, -1)).reshape(7, *shape)
    np.testing.assert_allclose(fit.reconstruct(others), back, atol=1e-4)


# ---- linear models with Gaussian noise ----


def planted(n, noise, seed=0):
    """Images of p(x|z) with known loadings (3, 6, 11) and noise variances (6, 11)."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(7).normal(size=(3, *SHAPE)) * [[[0.1]], [[0.07]], [[0.05]]]
    images = 0.5 + np.tensordot(rng.normal(size=(n, 3)), loadings, 1)
    return loadings, (images + np.sqrt(noise) * rng.normal(size=images.shape)).astype(np.float32)


def covariance(model):
    flat = model.loadings.reshape(model.latent_dim, -1).astype(np.float64)
    return flat.T @ flat + np.diag(model.noise.ravel().astype(np.float64))


def test_the_log_likelihood_is_the_normal_distributions_with_any_noise():
    ppca = LinearGaussian.fit_ppca(sections(60), 4)
    uneven = ppca.noise * np.linspace(0.5, 2, 66).reshape(SHAPE)
    for model in (ppca, LinearGaussian(ppca.mean, ppca.loadings, uneven)):
        expected = multivariate_normal(model.mean.ravel(), covariance(model))
        ours = model.log_likelihood(IMAGES)
        assert ours.shape == (7,) and ours.dtype == np.float64
        np.testing.assert_allclose(ours, expected.logpdf(IMAGES.reshape(7, -1)), rtol=1e-6)
    assert model.log_likelihood(IMAGES[:0]).shape == (0,)


def test_the_posterior_is_bayes_rule():
    model = LinearGaussian.fit_ppca(sections(60), 4)
    flat = model.loadings.reshape(4, -1).astype(np.float64)
    whole = np.linalg.inv(covariance(model))  # of the images: the road that the model avoids
    mean, std = model.posterior(IMAGES)
    expected = (IMAGES - model.mean).reshape(7, -1) @ whole @ flat.T
    np.testing.assert_allclose(mean, expected, atol=2e-4)
    left = np.eye(4) - flat @ whole @ flat.T
    np.testing.assert_allclose(std, np.tile(np.sqrt(np.diag(left)), (7, 1)), rtol=1e-3)
    assert np.abs(left - np.diag(np.diag(left))).max() < 1e-5 * np.diag(left).max()
    assert mean.dtype == std.dtype == np.float32
    assert np.array_equal(mean, model.encode(IMAGES))


def test_ppca_is_scikit_learns_with_n_for_n_minus_one():
    _, images = planted(300, 0.02**2)
    model = LinearGaussian.fit_ppca(images, 3)
    theirs = TheirPCA(3, svd_solver="full").fit(images.reshape(300, -1).astype(np.float64))
    theirs.explained_variance_ *= 299 / 300
    theirs.noise_variance_ *= 299 / 300
    others = planted(20, 0.02**2, seed=1)[1]
    scores = theirs.score_samples(others.reshape(20, -1).astype(np.float64))
    np.testing.assert_allclose(model.log_likelihood(others), scores, rtol=1e-6)


def test_without_noise_ppca_is_pca():
    images = planted(60, 0)[1]
    pca, ppca = PCA.fit(images, 3), LinearGaussian.fit_ppca(images, 3)
    assert (ppca.noise == np.float32(NOISE_FLOOR)).all()
    assert (LinearGaussian(ppca.mean, ppca.loadings, 0 * ppca.noise).noise == ppca.noise).all()
    others = sections(7)
    np.testing.assert_allclose(ppca.reconstruct(others), pca.reconstruct(others), atol=1e-4)
    np.testing.assert_allclose(
        ppca.encode(others), pca.encode(others) * np.sqrt(60 / 59), rtol=1e-3
    )


# ---- the linear model that is told the factors ----


def test_a_model_that_is_told_the_factors_is_a_regression_of_every_pixel():
    images, factors = TRAIN, np.random.default_rng(3).normal(size=(40, 4)) + [0.3, 0, -1, 0]
    model = LinearGaussian.fit_to_factors(images, factors)
    line = LinearRegression().fit(factors, images.reshape(40, -1).astype(float))
    np.testing.assert_allclose(model.loadings.reshape(4, -1), line.coef_.T, atol=1e-6)
    np.testing.assert_allclose(model.mean.ravel(), line.intercept_, atol=1e-6)
    left = np.square(images.reshape(40, -1) - line.predict(factors)).mean(axis=0)
    np.testing.assert_allclose(model.noise.ravel(), np.maximum(left, NOISE_FLOOR), rtol=1e-4)

    holed, constant = factors.copy(), factors.copy()
    holed[2, 1], constant[:, 3] = np.nan, 0.7
    given = [
        (r"factors \(5, 4\) must have a row for each of 40", images, factors[:5]),
        ("must be finite, and each must vary", images, holed),
        ("must be finite, and each must vary", images, constant),
        ("5 images are too few for 4 factors", images[:5], factors[:5]),
        ("image 0 .*", images * np.nan, factors),
    ]
    refused([(message, LinearGaussian.fit_to_factors, *two) for message, *two in given])


# ---- what every model must beat ----


@given(seed=st.integers(0, 2**16))
def test_the_nearest_brain_is_the_nearest(seed):
    images, model = sections(5, seed), NearestBrain.fit(TRAIN)
    distances = np.square(images[:, None].astype(np.float64) - TRAIN).sum(axis=(2, 3))
    found = model.encode(images)[:, 0].astype(int)
    np.testing.assert_allclose(distances[np.arange(5), found], distances.min(axis=1), rtol=1e-4)


def test_a_brains_number_is_rounded_and_must_exist():
    model = NearestBrain(TRAIN)
    assert np.array_equal(model.reconstruct(TRAIN), TRAIN)
    assert np.array_equal(model.decode([[3.4], [-0.4], [39.4]]), TRAIN[[3, 0, 39]])
    message = "code {:.0f} names no training brain; codes are 0 to 39"
    refused([(message.format(code), model.decode, [[code]]) for code in (-1.0, 39.6)])
