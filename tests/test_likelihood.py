"""Bounds of log p(x): exact where the posterior is, below where it is not, constants in."""

import numpy as np
import pytest
from refusals import refused
from scipy.stats import multivariate_normal, norm

from brainvae_core.metrics import fitted_sigma, likelihood_bound

SHAPE = (3, 5)
SIGMA = 0.3


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


def test_a_posterior_that_is_too_wide_costs_the_elbo_more():
    model = Linear(widen=2.0)
    images = model.sample(40)
    exact = model.log_likelihood(images)
    few, many = (likelihood_bound(model, images, SIGMA, n) for n in (10, 1000))
    assert (many.elbo < exact).all()
    np.testing.assert_allclose(many.importance_weighted, exact, atol=0.4)
    assert (few.importance_weighted >= few.elbo).all()
    np.testing.assert_array_equal(few.gap, few.importance_weighted - few.elbo)
    gap = [(exact - found.importance_weighted).mean() for found in (few, many)]
    assert gap[0] > gap[1] > -0.05
    assert (many.effective_samples < 1000).all() and (many.effective_samples > 100).all()
    # KL(q ‖ posterior) in closed form: twice as wide in each of two latents.
    kl = 2 * (0.5 * (4 - 1) - np.log(2))
    assert (exact - many.elbo).mean() == pytest.approx(kl, rel=0.05)


def test_a_second_implementation_agrees_on_unequal_weights():
    class Listening(Linear):
        def decode(self, z):
            self.z = z
            return super().decode(z)

    model = Listening(widen=2.0)
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


def test_a_sigma_a_pixel_is_taken_pixel_by_pixel():
    class Constant:
        def posterior(self, images):
            return np.zeros((len(images), 2)), np.ones((len(images), 2))

        def decode(self, z):
            return np.full((len(z), *SHAPE), 0.4)

    sigma = np.linspace(0.1, 0.5, 15).reshape(SHAPE)
    images = np.random.default_rng(0).random((4, *SHAPE))
    found = likelihood_bound(Constant(), images, sigma, 5)
    wanted = norm.logpdf(images, 0.4, sigma).sum(axis=(1, 2))
    np.testing.assert_allclose(found.elbo, wanted, rtol=1e-9)
    np.testing.assert_allclose(found.importance_weighted, wanted, rtol=1e-9)
    one = likelihood_bound(Constant(), images, 0.2, 5).elbo
    np.testing.assert_allclose(one, norm.logpdf(images, 0.4, 0.2).sum(axis=(1, 2)), rtol=1e-9)


def test_chunks_and_seeds(monkeypatch):
    model = Linear(widen=1.5)
    images = model.sample(7)
    whole = likelihood_bound(model, images, SIGMA, 4)
    monkeypatch.setattr("brainvae_core.metrics.likelihood.CHUNK_PIXELS", 3 * 4 * 15)
    np.testing.assert_allclose(likelihood_bound(model, images, SIGMA, 4), whole, rtol=1e-6)
    other = likelihood_bound(model, images, SIGMA, 4, seed=1)
    assert not np.allclose(other.elbo, whole.elbo, rtol=1e-6)


def test_the_fitted_sigma_is_the_noise():
    model = Linear(sigma=0.2)
    images = model.sample(4000, seed=1)
    assert fitted_sigma(model, images) == pytest.approx(0.2, rel=0.02)
    by_pixel = fitted_sigma(model, images, per_pixel=True)
    assert by_pixel.shape == SHAPE
    np.testing.assert_allclose(by_pixel, 0.2, rtol=0.06)


def test_a_pixel_that_is_always_black_leaves_other_brains_possible():
    class Dark:
        def posterior(self, images):
            return np.zeros((len(images), 1)), np.ones((len(images), 1))

        def decode(self, z):
            return np.zeros((len(z), *SHAPE))

    images = np.zeros((4, *SHAPE))
    images[:, 1, 2] = 0.5
    sigma = fitted_sigma(Dark(), images, per_pixel=True)
    assert sigma[0, 0] == 0.001 and sigma[1, 2] == 0.5
    assert fitted_sigma(Dark(), np.zeros((4, *SHAPE))) == 0.001


def test_nonsense_is_refused_by_name():
    model, images = Linear(), Linear().sample(3)
    broken = images.copy()
    broken[1, 0, 0] = np.inf
    cases = [
        (r"images\[1\] has pixels that are not finite", likelihood_bound, model, broken, SIGMA),
        ("sigma must be positive", likelihood_bound, model, images, 0.0),
        (
            r"sigma is \(5, 3\); it must be one number or \(3, 5\)",
            lambda: likelihood_bound(model, images, np.ones((5, 3))),
        ),
        ("n_samples=0", likelihood_bound, model, images, SIGMA, 0),
    ]
    refused(cases)
    posterior = model.posterior
    mean, std = posterior(images)
    for wrong, said in ((-std, "logarithm of the variance"), (std[0], r"a std of \(\d,\)")):
        model.posterior = lambda x, wrong=wrong: (mean, wrong)
        with pytest.raises(ValueError, match=said):
            likelihood_bound(model, images, SIGMA)
    model.posterior = posterior
    model.mean = np.full(15, np.nan)
    with pytest.raises(ValueError, match="not finite"):
        likelihood_bound(model, images, SIGMA)
    with pytest.raises(ValueError, match="not finite"):
        fitted_sigma(model, images)
