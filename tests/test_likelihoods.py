"""Likelihoods and the posterior's terms against torch.distributions and scipy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch.distributions import Bernoulli, Normal
from torch.distributions import kl_divergence as reference_kl

from brainvae_core.models.likelihoods import (
    LIKELIHOODS,
    effective_strength,
    share_of_pixels,
    sigma_at,
)
from brainvae_core.models.posterior import kl_divergence, reparameterise

SHAPE = (5, 3, 4)  # images, height, width
GAUSSIANS = ["gaussian", "gaussian_learned"]


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def greys(*shape, seed=2):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def negative_log(name, logits, images, sigma):
    return LIKELIHOODS[name].negative_log(logits, images, torch.tensor(math.log(sigma)))


# ---- the posterior ----


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


def test_kl_keeps_its_digits_next_to_the_prior():
    # KL ≈ logvar²/4 there; 1 + logvar has lost it in float32.
    logvar = torch.tensor([1e-3, -1e-3])
    np.testing.assert_allclose(kl_divergence(torch.zeros(2), logvar), 2.5e-7, rtol=2e-3)


def test_samples_have_the_posteriors_mean_and_spread():
    mean, logvar = torch.tensor([1.5, -2.0]), torch.tensor([-1.0, 0.8])
    n = 40_000
    z = reparameterise(mean.expand(n, 2), logvar.expand(n, 2), drawn(n, 2))
    std = (logvar / 2).exp()
    assert z.shape == (n, 2)
    assert ((z.mean(0) - mean).abs() < 4 * std / math.sqrt(n)).all()
    assert ((z.std(0) / std - 1).abs() < 4 / math.sqrt(2 * n)).all()
    assert abs(torch.corrcoef(z.T)[0, 1]) < 4 / math.sqrt(n)


def test_samples_follow_from_the_noise_and_let_gradients_through():
    mean, logvar = drawn(4, 3).requires_grad_(), drawn(4, 3, seed=1).requires_grad_()
    z = reparameterise(mean, logvar, drawn(4, 3, seed=5))
    assert torch.equal(z, reparameterise(mean, logvar, drawn(4, 3, seed=5)))
    assert not torch.equal(z, reparameterise(mean, logvar, drawn(4, 3, seed=6)))
    z.sum().backward()
    assert torch.equal(mean.grad, torch.ones(4, 3))
    np.testing.assert_allclose(logvar.grad, (z - mean).detach() / 2, rtol=1e-4, atol=1e-6)


# ---- what every likelihood owes ----


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_nats_are_summed_over_pixels_and_not_over_the_batch(name):
    logits, images = drawn(*SHAPE), greys(*SHAPE)
    loss = negative_log(name, logits, images, 0.1)
    assert loss.shape == (SHAPE[0],)
    tall = negative_log(name, logits.repeat(1, 7, 1), images.repeat(1, 7, 1), 0.1)
    # Bernoulli has no σ that could go with the size: its nats do.
    np.testing.assert_allclose(tall, loss if name == "bernoulli" else 7 * loss, rtol=1e-5)
    more = negative_log(name, logits.repeat(3, 1, 1), images.repeat(3, 1, 1), 0.1)
    np.testing.assert_allclose(more, loss.repeat(3), rtol=1e-5)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_image_itself_is_the_best_decoding(name):
    images = greys(*SHAPE) * 0.9 + 0.05
    best = negative_log(name, torch.logit(images), images, 0.1)
    for shift in (-0.2, 0.2):
        assert (negative_log(name, torch.logit(images) + shift, images, 0.1) > best).all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_gradient_is_that_of_finite_differences(name):
    logits = drawn(*SHAPE).double().requires_grad_()
    images, log_sigma = greys(*SHAPE).double(), torch.tensor(-0.7).double()
    log_sigma.requires_grad_(LIKELIHOODS[name].learns_sigma)
    assert torch.autograd.gradcheck(
        lambda *inputs: LIKELIHOODS[name].negative_log(inputs[0], images, inputs[1]),
        (logits, log_sigma),
    )


@pytest.mark.parametrize("name", LIKELIHOODS)
@settings(max_examples=30, deadline=None)
@given(logit=st.floats(-1e4, 1e4), grey=st.floats(0, 1, width=32), log_sigma=st.floats(-8, 3))
def test_no_float32_logit_gives_nan_or_infinity(name, logit, grey, log_sigma):
    logits = torch.full(SHAPE, logit).requires_grad_()
    log_sigma = torch.tensor(log_sigma).requires_grad_(LIKELIHOODS[name].learns_sigma)
    loss = LIKELIHOODS[name].negative_log(logits, torch.full(SHAPE, grey), log_sigma)
    loss.sum().backward()
    assert loss.dtype == torch.float32 and loss.isfinite().all() and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_half_precision_logits_and_images_are_summed_in_that_of_sigma(name):
    logits, images = drawn(2, 160, 224).bfloat16(), greys(2, 160, 224).bfloat16()
    loss = negative_log(name, logits, images, 0.1)
    assert loss.dtype == torch.float32
    exact = LIKELIHOODS[name].negative_log(
        logits.double(), images.double(), torch.tensor(math.log(0.1)).double()
    )
    np.testing.assert_allclose(loss, exact, rtol=1e-5)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_never_asks_for_a_value_of_the_device(name):
    logits, images = (torch.empty(SHAPE, device="meta") for _ in range(2))
    log_sigma = torch.empty((), device="meta").requires_grad_(LIKELIHOODS[name].learns_sigma)
    logits.requires_grad_()
    # A tensor without values: whatever needs one raises.
    LIKELIHOODS[name].negative_log(logits, images, log_sigma).mean().backward()
    assert logits.grad.is_meta and logits.grad.shape == SHAPE


# ---- Bernoulli ----


def test_bernoulli_is_that_of_torch_summed_over_pixels():
    logits, images = 3 * drawn(*SHAPE), greys(*SHAPE)
    reference = Bernoulli(logits=logits, validate_args=False).log_prob(images)
    found = negative_log("bernoulli", logits, images, 0.1)
    share = share_of_pixels(SHAPE[1:])
    np.testing.assert_allclose(found * share, -reference.sum((1, 2)), rtol=1e-5)


def test_bernoulli_knows_no_sigma():
    logits, images = drawn(*SHAPE), greys(*SHAPE)
    loss = negative_log("bernoulli", logits, images, 0.1)
    assert torch.equal(loss, negative_log("bernoulli", logits, images, 3.0))


# ---- Gaussian ----


@pytest.mark.parametrize("name", GAUSSIANS)
@pytest.mark.parametrize("sigma", [0.05, 0.7])
def test_gaussian_is_that_of_scipy_summed_over_pixels(name, sigma):
    logits, images = drawn(*SHAPE), greys(*SHAPE)
    means = 1 / (1 + np.exp(-logits.double().numpy()))
    reference = norm(means, sigma).logpdf(images.double().numpy()).sum((1, 2))
    np.testing.assert_allclose(negative_log(name, logits, images, sigma), -reference, rtol=1e-5)


def test_a_perfect_decoding_costs_the_constant_of_every_pixel():
    # float32 at the paper's number of pixels; below σ = 1/√2π a density is above 1: negative.
    logits = drawn(1, 320, 448)
    loss = negative_log("gaussian", logits, torch.sigmoid(logits), 0.05)
    expected = 143_360 * math.log(0.05 * math.sqrt(2 * math.pi))
    assert expected < 0
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 2))
def test_the_best_learned_sigma_is_the_root_mean_square_error(seed, scale):
    logits, images = scale * drawn(*SHAPE, seed=seed).double(), greys(*SHAPE, seed=seed).double()
    rms = (torch.sigmoid(logits) - images).square().mean().sqrt()
    log_sigma = rms.log().requires_grad_()

    def loss(value):
        return LIKELIHOODS["gaussian_learned"].negative_log(logits, images, value).mean()

    best = loss(log_sigma)
    best.backward()
    assert abs(log_sigma.grad) < 1e-9
    assert loss(log_sigma + 0.05) > best and loss(log_sigma - 0.05) > best


def test_only_the_learned_gaussian_learns_its_sigma():
    assert [name for name in LIKELIHOODS if LIKELIHOODS[name].learns_sigma] == ["gaussian_learned"]


# ---- how strong β is ----


def test_beta_is_as_strong_at_every_size():
    assert effective_strength(3, "gaussian") == pytest.approx(0.6 / 143_360)
    assert effective_strength(3, "bernoulli") == effective_strength(3, "gaussian")
    assert effective_strength(3, "squares") == pytest.approx(1.5 / 143_360)
    for name, sigma in (
        ("gaussian", 0.2**0.5),
        ("squares", 0.5**0.5),
        ("gaussian_learned", 0.2**0.5),
    ):
        assert sigma_at(name, (320, 448)) == pytest.approx(sigma)
        for halvings in range(1, 6):
            shape = (320 // 2**halvings, 448 // 2**halvings)
            assert sigma_at(name, shape) == pytest.approx(sigma / 2**halvings)


@pytest.mark.parametrize("name", ["gaussian", "bernoulli", "squares"])
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


def test_the_sum_of_squares_is_that_of_the_base_code():
    logits, images = drawn(3, 5, 7), greys(3, 5, 7)
    sigma = math.sqrt(0.5)  # what it has at 320 × 448, where no pixel is worth more than one
    constant = 35 * math.log(sigma * math.sqrt(2 * math.pi))
    squares = (torch.sigmoid(logits) - images).square().sum((1, 2))
    found = negative_log("squares", logits, images, sigma) - constant
    torch.testing.assert_close(found, squares, rtol=1e-4, atol=1e-4)


def test_effective_strength_is_the_weight_of_kl_in_the_gradient():
    # Of σ²/n_pixels times (squares / 2σ² + β·KL), the squares are half the mean squared error.
    logits, images = drawn(1, 3, 4), greys(1, 3, 4)
    sigma, n_pixels = sigma_at("gaussian", (3, 4)), 12
    constant = n_pixels * math.log(sigma * math.sqrt(2 * math.pi))
    distortion = negative_log("gaussian", logits, images, sigma) - constant
    half_error = (torch.sigmoid(logits) - images).square().mean() / 2
    weight = effective_strength(1, "gaussian")
    np.testing.assert_allclose(distortion * weight, half_error, rtol=1e-4)


@pytest.mark.parametrize("asked", [effective_strength, sigma_at])
def test_an_unknown_likelihood_is_refused(asked):
    with pytest.raises(ValueError, match="likelihood='gausian' is unknown; gaussian, bernoulli"):
        asked(3, "gausian") if asked is effective_strength else asked("gausian", (20, 28))
