"""Objectives and likelihoods against closed forms and second implementations in NumPy and SciPy."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import norm
from torch.distributions import Bernoulli, Normal
from torch.distributions import kl_divergence as reference_kl_divergence

from brainvae_core.models import effective_strength, sigma_at
from brainvae_core.models.objectives import (
    LIKELIHOODS,
    OBJECTIVES,
    Batch,
    decomposition,
    share_of_pixels,
    squared_mmd,
)
from brainvae_core.models.vae import kl_divergence, reparameterise

N, L, N_TRAIN = 5, 3, 41
SHAPE = (5, 3, 4)  # images, height, width


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def greys(*shape, seed=2):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def batch_of(n=N, latent_dim=L, seed=0, progress=1.0, dtype=torch.float32):
    mean, logvar, noise, prior = (
        drawn(n, latent_dim, seed=4 * seed + i, dtype=dtype) for i in range(4)
    )
    return Batch(
        distortion=100 + drawn(n, seed=seed + 99, dtype=dtype),
        mean=mean,
        logvar=logvar - 1,
        z=reparameterise(mean, logvar - 1, noise),
        prior=prior,
        progress=torch.tensor(progress, dtype=dtype),
        n_train=N_TRAIN,
    )


def config_of(beta=3.0, capacity=2.5, mmd_weight=700.0):
    return SimpleNamespace(beta=beta, capacity=capacity, mmd_weight=mmd_weight)


# ---- a second implementation: NumPy and SciPy, float64, one image and one pair at a time ----


def reference_kl(mean, logvar):
    return [(m**2 + np.exp(v) - 1 - v).sum() / 2 for m, v in zip(mean, logvar, strict=True)]


def reference_beta(b, config):
    return np.mean(b.distortion) + b.progress * config.beta * np.mean(
        reference_kl(b.mean, b.logvar)
    )


def reference_capacity(b, config):
    distances = [abs(kl - b.progress * config.capacity) for kl in reference_kl(b.mean, b.logvar)]
    return np.mean(b.distortion) + config.beta * np.mean(distances)


def reference_decomposition(mean, logvar, z, n_train):
    n, latent_dim = z.shape
    mi, tc, dimension_wise = [], [], []
    for i in range(n):
        std = np.exp(logvar / 2)
        under = [norm(mean[j], std[j]).logpdf(z[i]) for j in range(n)]
        log_q = logsumexp([terms.sum() for terms in under]) - np.log(n_train * n)
        log_marginals = [
            logsumexp([terms[k] for terms in under]) - np.log(n_train * n)
            for k in range(latent_dim)
        ]
        mi.append(under[i].sum() - log_q)
        tc.append(log_q - sum(log_marginals))
        dimension_wise.append(sum(log_marginals) - norm.logpdf(z[i]).sum())
    return np.mean(mi), np.mean(tc), np.mean(dimension_wise)


def reference_total_correlation(b, config):
    mi, tc, dimension_wise = reference_decomposition(b.mean, b.logvar, b.z, b.n_train)
    return np.mean(b.distortion) + b.progress * (mi + config.beta * tc + dimension_wise)


def reference_squared_mmd(a, b):
    def k(x, y):
        return 1 / (1 + np.linalg.norm(x - y) ** 2 / (2 * len(x)))

    pairs = [(i, j) for i in range(len(a)) for j in range(len(a)) if i != j] or [(0, 0)]
    one_pair = [k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(a[j], b[i]) for i, j in pairs]
    return np.mean(one_pair) if len(a) > 1 else 0.0


def reference_mmd(b, config):
    alpha = 1 - config.beta  # as the paper writes it
    kl, mmd = np.mean(reference_kl(b.mean, b.logvar)), reference_squared_mmd(b.z, b.prior)
    rate = (1 - alpha) * kl + (alpha + config.mmd_weight - 1) * mmd
    return np.mean(b.distortion) + b.progress * rate


REFERENCES = {
    "beta": reference_beta,
    "capacity": reference_capacity,
    "total_correlation": reference_total_correlation,
    "mmd": reference_mmd,
}


# ---- what every objective owes ----


@pytest.mark.parametrize("name", OBJECTIVES)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 7),
    latent_dim=st.sampled_from([1, 4, 9]),
    beta=st.floats(0, 20),
    progress=st.floats(0.01, 1),
)
def test_an_objective_is_that_of_its_second_implementation(
    name, seed, n, latent_dim, beta, progress
):
    batch = batch_of(n, latent_dim, seed, progress, dtype=torch.float64)
    as_numpy = Batch(*(np.asarray(value) for value in batch))
    expected = REFERENCES[name](as_numpy, config_of(beta))
    np.testing.assert_allclose(OBJECTIVES[name](batch, config_of(beta)), expected, rtol=1e-10)
    single = Batch(*(v.float() if torch.is_tensor(v) else v for v in batch))
    found = OBJECTIVES[name](single, config_of(beta))
    assert found.shape == () and found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_is_that_of_finite_differences(name):
    batch = batch_of(dtype=torch.float64, progress=0.4)
    noise = drawn(N, L, seed=7, dtype=torch.float64)

    def loss(mean, logvar):
        z = reparameterise(mean, logvar, noise)
        return OBJECTIVES[name](batch._replace(mean=mean, logvar=logvar, z=z), config_of())

    inputs = batch.mean.requires_grad_(), batch.logvar.requires_grad_()
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_never_asks_for_a_value_of_the_device(name):
    # A meta tensor has no values: whatever needs one raises, inside PyTorch too.
    batch = batch_of()
    tensors = {f: v.to("meta") for f, v in batch._asdict().items() if f != "n_train"}
    tensors["mean"].requires_grad_()
    tensors["z"] = tensors["mean"] + tensors["logvar"]
    OBJECTIVES[name](batch._replace(**tensors), config_of()).backward()
    assert tensors["mean"].grad.shape == (N, L)


# ---- total correlation ----


def aggregate_of(correlation, n=1500, spread=0.25, seed=0):
    """Posteriors whose mixture over n images is N(0, correlation), a sample of each."""
    correlation = torch.tensor(correlation, dtype=torch.float32)
    latent_dim = len(correlation)
    of_means = correlation - spread * torch.eye(latent_dim)
    mean = drawn(n, latent_dim, seed=seed) @ torch.linalg.cholesky(of_means).T
    logvar = torch.full((n, latent_dim), math.log(spread))
    return mean, logvar, reparameterise(mean, logvar, drawn(n, latent_dim, seed=seed + 1))


@pytest.mark.parametrize(
    "correlation", [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 1.0]]]
)
def test_the_total_correlation_of_gaussians_is_half_the_log_determinant(correlation):
    mean, logvar, z = aggregate_of(correlation)
    expected = -0.5 * np.log(np.linalg.det(correlation))
    _, total_correlation, dimension_wise_kl = decomposition(mean, logvar, z, n_train=1)
    assert total_correlation.item() == pytest.approx(expected, abs=0.06)
    # And every latent by itself is the prior.
    assert dimension_wise_kl.item() == pytest.approx(0, abs=0.06)


# ---- maximum mean discrepancy ----


def test_identical_samples_have_no_discrepancy_and_far_ones_have_2():
    a = drawn(N, L)
    assert squared_mmd(a, a.clone()).item() == 0
    # Two points apart by more than the kernel reaches: 1 + 1 − 2·0.
    apart = squared_mmd(torch.zeros(N, L), torch.full((N, L), 1e4)).item()
    assert apart == pytest.approx(2, abs=1e-6)


# ---- the posterior ----


@given(mean=st.floats(-5, 5), logvar=st.floats(-8, 4))
def test_kl_is_that_of_two_normals(mean, logvar):
    mean, logvar = torch.tensor([[mean]]).double(), torch.tensor([[logvar]]).double()
    expected = reference_kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0))
    np.testing.assert_allclose(kl_divergence(mean, logvar), expected, rtol=1e-9, atol=1e-9)


def test_kl_keeps_its_digits_next_to_the_prior():
    # KL ≈ logvar²/4 there; 1 + logvar has lost it in float32.
    logvar = torch.tensor([1e-3, -1e-3])
    np.testing.assert_allclose(kl_divergence(torch.zeros(2), logvar), 2.5e-7, rtol=2e-3)


# ---- what every likelihood owes ----


def negative_log(name, logits, images, sigma):
    return LIKELIHOODS[name].negative_log(logits, images, torch.tensor(math.log(sigma)))


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
    assert torch.equal(found, negative_log("bernoulli", logits, images, 3.0))  # knows no σ
    share = share_of_pixels(SHAPE[1:])
    np.testing.assert_allclose(found * share, -reference.sum((1, 2)), rtol=1e-5)


# ---- Gaussian ----


@pytest.mark.parametrize("name", ["gaussian", "gaussian_learned"])
@pytest.mark.parametrize("sigma", [0.05, 0.7])
def test_gaussian_is_that_of_scipy_summed_over_pixels(name, sigma):
    logits, images = drawn(*SHAPE), greys(*SHAPE)
    means = 1 / (1 + np.exp(-logits.double().numpy()))
    reference = norm(means, sigma).logpdf(images.double().numpy()).sum((1, 2))
    np.testing.assert_allclose(negative_log(name, logits, images, sigma), -reference, rtol=1e-5)


# ---- how strong β is ----


def test_beta_is_as_strong_at_every_size():
    assert [name for name in LIKELIHOODS if LIKELIHOODS[name].learns_sigma] == ["gaussian_learned"]
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


@pytest.mark.parametrize("asked", [effective_strength, sigma_at])
def test_an_unknown_likelihood_is_refused(asked):
    with pytest.raises(ValueError, match="likelihood='gausian' is unknown; gaussian, bernoulli"):
        asked(3, "gausian") if asked is effective_strength else asked("gausian", (20, 28))
