"""The objective and its likelihoods against closed forms and second implementations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch.distributions import Bernoulli

from brainvae_core.models import effective_strength, sigma_at
from brainvae_core.models.objectives import LIKELIHOODS, Terms, share_of_pixels
from brainvae_core.models.vae import kl_divergence

SHAPE = (5, 3, 4)  # images, height, width


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def greys(*shape, seed=2):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# ---- the objective ----


def terms_of(distortion, mean, logvar):
    return Terms(distortion, kl_divergence(mean, logvar), mean)


@pytest.mark.promise("the objective is that of closed forms and second implementations")
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 7),
    latent_dim=st.sampled_from([1, 4, 9]),
    beta=st.floats(0, 20),
    progress=st.floats(0.01, 1),
)
def test_the_objective_is_that_of_its_second_implementation(seed, n, latent_dim, beta, progress):
    distortion = 100 + drawn(n, seed=seed)
    mean, logvar = drawn(2, n, latent_dim, seed=seed + 1)
    rates = [
        (m**2 + np.exp(v) - 1 - v).sum() / 2
        for m, v in zip(mean.double().numpy(), logvar.double().numpy(), strict=True)
    ]
    expected = np.mean(distortion.double().numpy()) + progress * beta * np.mean(rates)
    found = terms_of(distortion, mean, logvar).loss(beta, torch.tensor(progress))
    assert found.shape == () and found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-5)


# ---- what every likelihood owes ----


def negative_log(name, logits, images, sigma):
    return LIKELIHOODS[name].negative_log(logits, images, torch.tensor(math.log(sigma)))


@pytest.mark.parametrize("name", LIKELIHOODS)
@given(logit=st.floats(-1e4, 1e4), grey=st.floats(0, 1, width=32), log_sigma=st.floats(-8, 3))
def test_no_float32_logit_gives_nan_or_infinity(name, logit, grey, log_sigma):
    logits = torch.full(SHAPE, logit).requires_grad_()
    images, log_sigma = torch.full(SHAPE, grey), torch.tensor(log_sigma)
    loss = LIKELIHOODS[name].negative_log(logits, images, log_sigma)
    loss.sum().backward()
    assert loss.dtype == torch.float32 and loss.isfinite().all() and logits.grad.isfinite().all()


@pytest.mark.promise("the objective is that of closed forms and second implementations")
def test_bernoulli_is_that_of_torch_summed_over_pixels():
    logits, images = 3 * drawn(*SHAPE), greys(*SHAPE)
    reference = Bernoulli(logits=logits, validate_args=False).log_prob(images)
    found = negative_log("bernoulli", logits, images, 0.1)
    assert torch.equal(found, negative_log("bernoulli", logits, images, 3.0))  # knows no σ
    share = share_of_pixels(SHAPE[1:])
    np.testing.assert_allclose(found * share, -reference.sum((1, 2)), rtol=1e-5)


@pytest.mark.promise("the objective is that of closed forms and second implementations")
@pytest.mark.parametrize("sigma", [0.05, 0.7])
def test_gaussian_is_that_of_scipy_summed_over_pixels(sigma):
    logits, images = drawn(*SHAPE), greys(*SHAPE)
    means = 1 / (1 + np.exp(-logits.double().numpy()))
    reference = norm(means, sigma).logpdf(images.double().numpy()).sum((1, 2))
    for n in (1, 5):  # a single brain is a batch too
        found = negative_log("gaussian", logits[:n], images[:n], sigma)
        np.testing.assert_allclose(found, -reference[:n], rtol=1e-5)


# ---- how strong β is ----


def test_beta_is_as_strong_at_every_size():
    assert effective_strength(3, "gaussian") == pytest.approx(0.6 / 143_360)
    assert effective_strength(3, "bernoulli") == effective_strength(3, "gaussian")
    assert effective_strength(3, "squares") == pytest.approx(1.5 / 143_360)
    for name, sigma in (("gaussian", 0.2**0.5), ("squares", 0.5**0.5)):
        for halvings in range(6):
            shape = (320 // 2**halvings, 448 // 2**halvings)
            assert sigma_at(name, shape) == pytest.approx(sigma / 2**halvings)
    for asked in (lambda: effective_strength(3, "gausian"), lambda: sigma_at("gausian", (20, 28))):
        with pytest.raises(ValueError, match="likelihood='gausian' is unknown; gaussian, berno"):
            asked()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_nats_but_for_a_constant_are_those_of_the_same_image_at_any_size(name):
    # An image of pixels twice as wide and high, each the same grey, costs what it cost before.
    logits, images = drawn(2, 5, 7), greys(2, 5, 7)
    wide = [part.repeat_interleave(2, 1).repeat_interleave(2, 2) for part in (logits, images)]
    costs = []
    for one, other in ((logits, images), wide):
        sigma = sigma_at(name, one.shape[1:])
        best = torch.logit(other, eps=1e-6)
        cost = negative_log(name, one, other, sigma) - negative_log(name, best, other, sigma)
        costs.append(cost)
    torch.testing.assert_close(*costs, rtol=1e-3, atol=1e-2)
