"""Sets of images and bounds of log p(x): closed forms, second counts, degenerate samples."""

import mpmath
import numpy as np
import pytest
from refusals import refused
from scipy.stats import multivariate_normal, norm

from brainvae_core.metrics import (
    aggregate_codes,
    fitted_sigma,
    frechet_distance,
    generated_scores,
    likelihood_bound,
    pca_basis,
    pca_frechet_distance,
)

# ---- fréchet distance ----


def sample(n, d, seed=0, shift=0.0):
    """Correlated, with unequal spreads."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + shift


def by_matrix_square_root(a, b):
    """The textbook form in 50 digits."""
    with mpmath.workdps(50):
        centred_a, centred_b = (mpmath.matrix((s - s.mean(axis=0)).tolist()) for s in (a, b))
        cov_a = centred_a.T * centred_a / (len(a) - 1)
        cov_b = centred_b.T * centred_b / (len(b) - 1)
        values, _ = mpmath.eig(cov_a * cov_b)
        overlap = sum(mpmath.sqrt(abs(mpmath.re(v))) for v in values)
        trace = sum(cov_a[i, i] + cov_b[i, i] for i in range(cov_a.rows))
        return float(((a.mean(0) - b.mean(0)) ** 2).sum() + trace - 2 * overlap)


def brains(n, shape=(12, 17), seed=0, noise=0.01):
    """A few smooth ways of varying, and noise."""
    rng = np.random.default_rng(seed)
    ways = np.random.default_rng(99).random((4, *shape))
    weights = rng.standard_normal((n, 4)) * [0.1, 0.05, 0.03, 0.02]
    images = 0.5 + np.tensordot(weights, ways, 1) + noise * rng.standard_normal((n, *shape))
    return images.clip(0, 1).astype(np.float32)


@pytest.mark.promise("metrics agree with second implementations")
@pytest.mark.parametrize(("n_a", "n_b", "d"), [(30, 41, 1), (60, 50, 8), (5, 7, 9)])
def test_full_covariances_agree_with_a_matrix_square_root_in_50_digits(n_a, n_b, d):
    a, b = sample(n_a, d, 3), sample(n_b, d, 4, shift=0.7)
    assert frechet_distance(a, b) == pytest.approx(by_matrix_square_root(a, b), rel=1e-9)


@pytest.mark.parametrize("n", [9, 40])
def test_the_basis_is_that_of_a_singular_value_decomposition(n, monkeypatch):
    images = brains(n, noise=0.05)
    basis = pca_basis(images, 6)
    flat = images.reshape(n, -1).astype(np.float64)
    scores, values, components = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    assert basis.mean.shape == (12, 17) and basis.components.shape == (6, 12, 17)
    np.testing.assert_allclose(basis.mean, flat.mean(axis=0).reshape(12, 17), atol=1e-12)
    found = basis.components.reshape(6, -1)
    np.testing.assert_allclose(found @ found.T, np.eye(6), atol=1e-9)
    np.testing.assert_allclose(np.abs((found * components[:6]).sum(axis=1)), 1, atol=1e-9)
    projected = basis.project(images)
    assert projected.shape == (n, 6) and projected.dtype == np.float64
    np.testing.assert_allclose(np.abs(projected), np.abs(scores * values)[:, :6], atol=1e-8)
    for block in (3 * 12 * 17 + 1, 7):
        monkeypatch.setattr("brainvae_core.metrics.generative.BLOCK", block)
        parts = pca_basis(images, 6)
        np.testing.assert_allclose(parts.project(images), projected, atol=1e-9)


def test_pca_distance_sees_what_generated_images_lack():
    basis, real, other = pca_basis(brains(60, seed=1), 6), brains(40, seed=2), brains(40, seed=3)
    floor = pca_frechet_distance(basis, real, other)
    collapsed = np.repeat(basis.mean[np.newaxis], 40, axis=0)
    assert floor < pca_frechet_distance(basis, real, 0.5 * (other + basis.mean)) / 2
    spread = basis.project(real)
    worst = spread.var(axis=0, ddof=1).sum() + (spread.mean(axis=0) ** 2).sum()
    assert pca_frechet_distance(basis, real, collapsed) == pytest.approx(worst, rel=1e-9)


# ---- codes of the aggregate posterior ----

IMAGES = np.random.default_rng(0).random((5, 4, 6)).astype(np.float32)
OTHERS = 1 - np.random.default_rng(1).random((4, 4, 6)).astype(np.float32) / 2


class Points:
    def encode(self, images):
        return np.stack([images.mean(axis=(1, 2)), images[:, 0, 0]], axis=1)


class Painter(Points):
    def posterior(self, images):
        return self.encode(images), np.full((len(images), 2), [0.5, 0.0])

    def decode(self, z):
        return 0.5 + 0.1 * np.ones((len(z), 4, 6)) * (z[:, :1, None] + 0.1 * z[:, 1:, None])


def test_without_a_posterior_they_are_codes_of_brains_each_as_often_as_another():
    codes = aggregate_codes(Points(), IMAGES, 5000)
    own = Points().encode(IMAGES)
    which = np.abs(codes[:, None] - own).max(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(codes, own[which])
    np.testing.assert_allclose(np.bincount(which) / 5000, 0.2, atol=0.03)


def test_with_one_its_noise_is_drawn():
    codes = aggregate_codes(Painter(), IMAGES, 20000)
    own = Points().encode(IMAGES)
    assert codes.dtype == np.float32 and codes.shape == (20000, 2)
    assert codes[:, 0].var() == pytest.approx(own[:, 0].var() + 0.25, rel=0.05)
    assert set(codes[:, 1]) <= set(own[:, 1])
    first, again = (aggregate_codes(Painter(), IMAGES, 7) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_images_of_three_kinds_are_as_many_scores_in_the_basis():
    model, basis = Painter(), pca_basis(IMAGES, 3)
    found, again = (generated_scores(model, basis, OTHERS, IMAGES) for _ in range(2))
    assert set(found) == {"reconstructions", "prior samples", "aggregate posterior"}
    np.testing.assert_array_equal(again["prior samples"], found["prior samples"])
    codes = {
        "reconstructions": model.encode(OTHERS),
        "aggregate posterior": aggregate_codes(model, IMAGES, len(OTHERS)),
    }
    without = Painter()
    without.has_prior = False
    assert set(generated_scores(without, basis, OTHERS, IMAGES)) == set(codes)
    for kind, z in codes.items():
        np.testing.assert_allclose(found[kind], basis.project(model.decode(z)), err_msg=kind)


def test_a_latents_prior_is_standard_normal():
    basis = pca_basis(IMAGES, 1)
    found = generated_scores(Painter(), basis, np.repeat(OTHERS, 5000, axis=0), IMAGES)
    prior = found["prior samples"] - basis.project(Painter().decode(np.zeros((1, 2))))
    one_step = 0.1 * np.abs(basis.components.sum()) * np.hypot(1, 0.1)
    assert prior.std() == pytest.approx(one_step, rel=0.02)
    assert prior.mean() == pytest.approx(0, abs=0.03 * one_step)


# ---- bounds of log p(x) ----

SHAPE, SIGMA = (3, 5), 0.3


class Linear:
    """x = mean + Σ z_k w_k + σ noise with orthogonal w_k, so that the posterior is diagonal."""

    def __init__(self, sigma=SIGMA, widen=1.0):
        rng = np.random.default_rng(0)
        directions = np.linalg.qr(rng.normal(size=(15, 2)))[0].T
        self.w = directions * np.array([[1.2], [0.5]])
        self.mean, self.sigma, self.widen = rng.random(15), sigma, widen

    def posterior(self, images):
        flat = np.asarray(images, float).reshape(len(images), -1) - self.mean
        precision = 1 + (self.w**2).sum(axis=1) / self.sigma**2
        std = np.repeat(precision[None] ** -0.5, len(flat), axis=0) * self.widen
        return flat @ self.w.T / self.sigma**2 / precision, std

    def decode(self, z):
        self.z = z
        return (self.mean + z @ self.w).reshape(-1, *SHAPE)

    def log_likelihood(self, images):
        covariance = self.w.T @ self.w + self.sigma**2 * np.eye(15)
        return multivariate_normal(self.mean, covariance).logpdf(images.reshape(len(images), -1))

    def sample(self, n, seed=0):
        rng = np.random.default_rng(seed)
        images = self.decode(rng.normal(size=(n, 2)))
        return images + self.sigma * rng.normal(size=images.shape)


@pytest.mark.parametrize("n_samples", [1, 7, 64])
def test_with_the_exact_posterior_both_bounds_are_the_likelihood(n_samples):
    model = Linear()
    images = model.sample(6)
    found = likelihood_bound(model, images, SIGMA, n_samples)
    exact = model.log_likelihood(images)
    np.testing.assert_allclose(found.elbo, exact, rtol=1e-5)
    np.testing.assert_allclose(found.importance_weighted, exact, rtol=1e-5)
    np.testing.assert_allclose(found.effective_samples, n_samples, rtol=1e-3)


@pytest.mark.promise("metrics agree with second implementations")
def test_a_second_implementation_agrees_on_unequal_weights():
    model = Linear(widen=2.0)
    images = model.sample(6)
    found = likelihood_bound(model, images, SIGMA, 9)
    z, (mean, std) = model.z.reshape(6, 9, 2), model.posterior(images)
    rest = images[:, None] - Linear().decode(z.reshape(-1, 2)).reshape(6, 9, *SHAPE)
    log_weights = norm.logpdf(rest, scale=SIGMA).sum(axis=(2, 3))
    log_weights += (norm.logpdf(z) - norm.logpdf(z, mean[:, None], std[:, None])).sum(axis=2)
    weights = np.exp(log_weights)
    assert (weights.max(axis=1) > 2 * weights.mean(axis=1)).all()
    np.testing.assert_allclose(found.elbo, log_weights.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(found.importance_weighted, np.log(weights.mean(axis=1)), rtol=1e-4)
    wanted = weights.sum(axis=1) ** 2 / np.square(weights).sum(axis=1)
    np.testing.assert_allclose(found.effective_samples, wanted, rtol=1e-4)
    assert (found.gap > 0.1).all() and np.array_equal(found.gap, found[1] - found[0])


def test_chunks_change_nothing(monkeypatch):
    model = Linear(widen=1.5)
    images = model.sample(7)
    whole, sigma = likelihood_bound(model, images, SIGMA, 4), fitted_sigma(model, images)
    for chunk in (3 * 4 * 15, 7):  # the last holds no image
        monkeypatch.setattr("brainvae_core.metrics.generative.CHUNK_PIXELS", chunk)
        np.testing.assert_allclose(likelihood_bound(model, images, SIGMA, 4), whole, rtol=1e-6)
        assert fitted_sigma(model, images) == pytest.approx(sigma)


def test_the_fitted_sigma_is_the_noise():
    model = Linear(sigma=0.2)
    images = model.sample(4000, seed=1)
    assert fitted_sigma(model, images) == pytest.approx(0.2, rel=0.02)
    exact = Linear(sigma=1e-9)
    assert fitted_sigma(exact, exact.sample(4)) == 0.001  # no other brain is impossible


def test_nonsense_is_refused_by_name():
    a, images = sample(8, 3), brains(6)
    basis = pca_basis(images, 3)
    model, drawn = Linear(), Linear().sample(3)
    cases = [
        (r"scores_a \(8, 3\) and scores_b \(3, 8\) .* columns", frechet_distance, a, a.T),
        ("d = 6 .* 1 to 5", pca_basis, images, 6),
        ("span only 2", pca_basis, np.concatenate([images[:3], images[:3]]), 3),
        (r"an image \(17, 12\) and the basis \(12, 17\)", basis.project, images.mT),
        ("6 real and 5 generated", pca_frechet_distance, basis, images, images[:5]),
        ("n=0: draw at least 1", aggregate_codes, Points(), IMAGES, 0),
        ("sigma=0 must be positive", likelihood_bound, model, drawn, 0.0, 4),
    ]
    refused(cases)
    assert len(pca_basis(images, 5).components) == 5
    assert len(aggregate_codes(Points(), IMAGES, 1)) == 1  # the most and the fewest
    mean, std = Linear().posterior(drawn)
    model.mean = np.full(15, np.nan)
    refused([("not finite", fitted_sigma, model, drawn)])
    for wrong, said in (
        (-std, "logarithm of the variance"),
        (std[0], r"a std of \(\d,\)"),
        (std, "not finite"),
    ):
        model.posterior = lambda x, wrong=wrong: (mean, wrong)
        refused([(said, likelihood_bound, model, drawn, SIGMA, 4)])
