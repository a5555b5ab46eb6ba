"""Numbers against higher precision and closed forms, and at the ends of what can be asked."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_brains import fit_alone, sections
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl_divergence
from toys import Answers

from brainvae_core import fields, metrics
from brainvae_core.models import BetaVAE, BetaVAEConfig, elbo_terms
from brainvae_core.models.objectives import LIKELIHOODS, Terms, terms_of
from brainvae_core.models.vae import kl_divergence

SHAPE, C = (20, 28), np.linspace(-7, 7, 29)


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def in_both(latent_dim, seed=0):
    """A network in float32, and the same weights in float64."""
    torch.manual_seed(seed)
    model = BetaVAE(latent_dim, SHAPE)
    double = BetaVAE(latent_dim, SHAPE)
    double.load_state_dict(model.state_dict())
    return model, double.double()


# ---- the objective: KL in closed form, gradients by finite differences, float32 by float64 ----


@pytest.mark.promise("the objective is that of closed forms and second implementations")
@given(mean=st.floats(-5, 5), logvar=st.floats(-8, 4))
def test_kl_is_that_of_two_normals(mean, logvar):
    mean, logvar = torch.tensor([[mean]]).double(), torch.tensor([[logvar]]).double()
    expected = reference_kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0))
    np.testing.assert_allclose(kl_divergence(mean, logvar), expected, rtol=1e-9, atol=1e-9)


def test_kl_keeps_its_digits_next_to_the_prior():
    # KL ≈ logvar²/4 there; 1 + logvar has lost it in float32.
    logvar = torch.tensor([1e-3, -1e-3])
    np.testing.assert_allclose(kl_divergence(torch.zeros(2), logvar), 2.5e-7, rtol=2e-3)


@pytest.mark.promise("gradients are those of finite differences")
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("beta", [0.0, 3.0])
def test_gradients_are_those_of_finite_differences(likelihood, beta):
    images = drawn(5, 3, 4).sigmoid()
    mean, logvar = (drawn(5, 3, seed=s).requires_grad_() for s in (1, 2))
    logits, log_sigma = drawn(5, 3, 4, seed=3).requires_grad_(), drawn(seed=4).requires_grad_()

    def kl(mean, logvar):
        return kl_divergence(mean, logvar).sum()

    def loss(mean, logvar, logits, log_sigma):
        distortion = LIKELIHOODS[likelihood].negative_log(logits, images, log_sigma)
        terms = Terms(distortion, kl_divergence(mean, logvar), mean)
        return terms.loss(beta, torch.tensor(0.4).double())

    assert torch.autograd.gradcheck(kl, (mean, logvar))
    assert torch.autograd.gradcheck(loss, (mean, logvar, logits, log_sigma))


@pytest.mark.promise("float32 is float64 within a stated bound: objective, metrics, fields")
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("latent_dim", [1, 8, 100])
def test_the_objective_in_float32_is_that_in_float64(likelihood, latent_dim):
    model, double = in_both(latent_dim)
    images, noise = drawn(4, *SHAPE).sigmoid(), drawn(4, latent_dim, seed=1)
    found = []
    for one, dtype in ((model, torch.float32), (double, torch.float64)):
        terms = terms_of(one, images.to(dtype), noise.to(dtype), likelihood)
        loss = terms.loss(3.0, torch.ones((), dtype=dtype))
        loss.backward()
        gradient = torch.cat([p.grad.flatten().double() for p in one.parameters()])
        found.append((loss.item(), terms.kl.detach().double(), gradient))
    (loss, kl, gradient), (exact, exact_kl, exact_gradient) = found
    assert loss == pytest.approx(exact, rel=1e-5)
    assert (kl - exact_kl).abs().max() <= 1e-4 * exact_kl.abs().max()
    assert (gradient - exact_gradient).norm() <= 1e-3 * exact_gradient.norm()


# ---- fields by float64, Fréchet distance in closed form ----


@pytest.mark.promise("float32 is float64 within a stated bound: objective, metrics, fields")
def test_fields_in_float32_are_those_in_float64():
    model, double = in_both(3)
    images, masks = sections(12), np.zeros((3, *SHAPE), bool)
    masks[0, 8:14, 8:20] = masks[1, 14:20, 8:20] = masks[2, 8:14, 2:14] = True

    def posterior(images):
        with torch.no_grad():
            mean, logvar = double.posterior_parameters(torch.from_numpy(images).double())
        return mean.numpy(), np.exp(logvar.numpy() / 2)

    def decode(z):
        with torch.no_grad():
            return double.logits(torch.from_numpy(z).double()).sigmoid().numpy()

    exact = Answers(posterior=posterior, decode=decode)
    one, other = (fields.both_directions(m, images, masks, C) for m in (model, exact))
    found, wanted = one.receptive.divergence, other.receptive.divergence
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6)
    found, wanted = one.projective.variance_all, other.projective.variance_all
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * wanted.max())


@pytest.mark.promise("KL and Fréchet distance are those of closed forms")
@pytest.mark.parametrize("n", [9, 400])
def test_frechet_distance_is_that_of_gaussians_with_common_axes(n):
    rng = np.random.default_rng(0)
    white = np.linalg.qr(rng.standard_normal((n, 7)))[0]
    white = np.linalg.qr(white - white.mean(axis=0))[0] * math.sqrt(n - 1)
    one, other, shift = rng.uniform(0.1, 3, (3, 7))
    found = metrics.frechet_distance(white * one, white * other + shift)
    assert found == pytest.approx((shift**2 + (one - other) ** 2).sum(), rel=1e-9)


# ---- the ends of what can be asked: a right value, or an error of one line ----


@pytest.mark.promise("at extremes there is a right value or an error of one line, never NaN")
@pytest.mark.parametrize("latent_dim", [1, 100])
@pytest.mark.parametrize("beta", [0.0, 3.0, 1e4])
def test_a_fit_at_an_extreme_is_finite(latent_dim, beta):
    train, validation = sections(8, 0, (10, 14)), sections(3, 1, (10, 14))
    config = BetaVAEConfig(latent_dim, beta, steps=3, batch_size=4, precision="float32")
    model, (row,), failure, _ = fit_alone(replace(config, validate_every=3), train, validation)
    assert failure is None and np.isfinite([*row.values()]).all()
    distortion, rate = elbo_terms(model, config, validation)
    expected = (distortion + beta * rate).mean()
    assert row["validation_loss"] == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(model.reconstruct(validation)).all()
