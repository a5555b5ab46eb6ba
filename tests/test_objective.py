"""−ELBO_β against torch.distributions, which is another implementation of each term."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, Normal
from torch.distributions import kl_divergence as reference_kl

from brainvae_core.models import effective_strength
from brainvae_core.models.objective import (
    LIKELIHOODS,
    bernoulli,
    gaussian,
    kl_divergence,
    reparameterise,
)

SHAPE = (5, 3, 4)  # images, height, width


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=50, deadline=None)
@given(mean=st.floats(-5, 5), logvar=st.floats(-8, 4))
def test_kl_is_that_of_two_normals(mean, logvar):
    mean, logvar = torch.tensor([[mean]]).double(), torch.tensor([[logvar]]).double()
    expected = reference_kl(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0))
    np.testing.assert_allclose(kl_divergence(mean, logvar), expected, rtol=1e-9, atol=1e-9)


def test_kl_is_per_latent_and_zero_at_the_prior():
    assert kl_divergence(drawn(5, 3), drawn(5, 3, seed=1)).shape == (5, 3)
    assert torch.equal(kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)), torch.zeros(2, 3))
    assert (kl_divergence(drawn(50, 3), drawn(50, 3, seed=1)) > 0).all()


def test_bernoulli_is_that_of_torch_summed_over_pixels():
    logits, images = 3 * drawn(*SHAPE), torch.rand(SHAPE)
    reference = Bernoulli(logits=logits, validate_args=False).log_prob(images)
    np.testing.assert_allclose(bernoulli(logits, images, 0.1), -reference.sum((1, 2)), rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.05, 0.7])
def test_gaussian_is_that_of_torch_summed_over_pixels(sigma):
    logits, images = drawn(*SHAPE), torch.rand(SHAPE)
    reference = Normal(torch.sigmoid(logits), sigma).log_prob(images)
    np.testing.assert_allclose(gaussian(logits, images, sigma), -reference.sum((1, 2)), rtol=1e-5)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_nats_are_per_image_not_per_pixel_and_not_per_batch(likelihood):
    logits, images = drawn(*SHAPE), torch.rand(SHAPE)
    loss = LIKELIHOODS[likelihood](logits, images, 0.1)
    assert loss.shape == (SHAPE[0],)
    tall = LIKELIHOODS[likelihood](logits.repeat(1, 7, 1), images.repeat(1, 7, 1), 0.1)
    np.testing.assert_allclose(tall, 7 * loss, rtol=1e-5)
    more = LIKELIHOODS[likelihood](logits.repeat(3, 1, 1), images.repeat(3, 1, 1), 0.1)
    np.testing.assert_allclose(more, loss.repeat(3), rtol=1e-5)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_image_itself_is_the_best_decoding(likelihood):
    images = torch.rand(SHAPE) * 0.9 + 0.05
    best = LIKELIHOODS[likelihood](torch.logit(images), images, 0.1)
    for shift in (-0.2, 0.2):
        assert (LIKELIHOODS[likelihood](torch.logit(images) + shift, images, 0.1) > best).all()


def test_samples_have_the_posteriors_mean_and_spread():
    mean, logvar = torch.tensor([1.5, -2.0]), torch.tensor([-1.0, 0.8])
    n = 40_000
    z = reparameterise(mean.expand(n, 2), logvar.expand(n, 2), torch.Generator().manual_seed(0))
    std = (logvar / 2).exp()
    assert z.shape == (n, 2)
    assert ((z.mean(0) - mean).abs() < 4 * std / math.sqrt(n)).all()
    assert ((z.std(0) / std - 1).abs() < 4 / math.sqrt(2 * n)).all()
    assert abs(torch.corrcoef(z.T)[0, 1]) < 4 / math.sqrt(n)


def test_samples_follow_from_the_generator_and_let_gradients_through():
    mean, logvar = drawn(4, 3).requires_grad_(), drawn(4, 3, seed=1).requires_grad_()
    z = reparameterise(mean, logvar, torch.Generator().manual_seed(5))
    assert torch.equal(z, reparameterise(mean, logvar, torch.Generator().manual_seed(5)))
    assert not torch.equal(z, reparameterise(mean, logvar, torch.Generator().manual_seed(6)))
    z.sum().backward()
    assert torch.equal(mean.grad, torch.ones(4, 3))
    np.testing.assert_allclose(logvar.grad, (z - mean).detach() / 2, rtol=1e-4, atol=1e-6)


def test_effective_strength_is_beta_sigma_squared_over_pixels():
    shape = (320, 448)
    assert effective_strength(3, "gaussian", 0.05, shape) == pytest.approx(3 * 0.0025 / 143_360)
    assert effective_strength(3, "bernoulli", 0.05, shape) == pytest.approx(0.6 / 143_360)
    # β = 3 with σ = 0.05 is 80 times weaker than β = 3 under Bernoulli.
    ratio = effective_strength(3, "bernoulli", 9, shape) / effective_strength(
        3, "gaussian", 0.05, shape
    )
    assert ratio == pytest.approx(80)
    quarter = effective_strength(3, "gaussian", 0.05, (160, 224))
    assert quarter == pytest.approx(4 * effective_strength(3, "gaussian", 0.05, shape))


def test_effective_strength_of_an_unknown_likelihood_is_refused():
    with pytest.raises(ValueError, match="likelihood='gausian' is unknown; bernoulli, gaussian"):
        effective_strength(3, "gausian", 0.05, (20, 28))
