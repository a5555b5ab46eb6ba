"""The objectives against closed forms and against a second implementation in NumPy and SciPy."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm

from brainvae_core.models.objectives import OBJECTIVES, Batch
from brainvae_core.models.objectives.mmd import squared_mmd
from brainvae_core.models.objectives.total_correlation import decomposition
from brainvae_core.models.posterior import kl_divergence, reparameterise

N, L, N_TRAIN = 5, 3, 41


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


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

    pairs = [(i, j) for i in range(len(a)) for j in range(len(a)) if i != j]
    return np.mean(
        [k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(a[j], b[i]) for i, j in pairs]
    )


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


def test_every_objective_has_a_second_implementation():
    assert set(OBJECTIVES) == set(REFERENCES)


@pytest.mark.parametrize("name", OBJECTIVES)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(2, 7),
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


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_one_finite_float32_as_exact_as_float32_is(name):
    loss = OBJECTIVES[name](batch_of(), config_of())
    assert loss.shape == () and loss.dtype == torch.float32 and loss.isfinite()
    exact = OBJECTIVES[name](batch_of()._replace(**_doubled(batch_of())), config_of())
    np.testing.assert_allclose(loss, exact, rtol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_reach_mean_log_variance_and_distortion(name):
    batch = batch_of()
    mean, logvar = batch.mean.requires_grad_(), batch.logvar.requires_grad_()
    z = reparameterise(mean, logvar, drawn(N, L, seed=7))
    batch = batch._replace(z=z, distortion=batch.distortion.requires_grad_())
    OBJECTIVES[name](batch, config_of()).backward()
    for gradient in (mean.grad, logvar.grad):
        assert gradient.isfinite().all() and (gradient != 0).all()
    np.testing.assert_allclose(batch.distortion.grad, np.full(N, 1 / N), rtol=1e-6)


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
def test_the_distortion_counts_in_full_from_the_first_step(name):
    batch = batch_of(progress=0.01)
    more = OBJECTIVES[name](batch._replace(distortion=batch.distortion + 10), config_of())
    assert more - OBJECTIVES[name](batch, config_of()) == pytest.approx(10, rel=1e-4)


@pytest.mark.parametrize("name", sorted(OBJECTIVES.keys() - {"capacity"}))
def test_the_rate_rises_in_proportion_to_the_warm_up(name):
    # The capacity's warm-up raises its target instead.
    nothing = batch_of().distortion.mean()
    whole = OBJECTIVES[name](batch_of(progress=1.0), config_of()) - nothing
    part = OBJECTIVES[name](batch_of(progress=0.25), config_of()) - nothing
    assert part == pytest.approx(0.25 * whole.item(), rel=1e-3)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_neither_the_order_of_images_nor_that_of_latents_matters(name):
    batch = batch_of()
    rows, columns = torch.tensor([3, 0, 4, 2, 1]), torch.tensor([2, 0, 1])
    shuffled = {f: getattr(batch, f)[rows] for f in ("mean", "logvar", "z", "prior", "distortion")}
    turned = {f: shuffled[f][:, columns] for f in ("mean", "logvar", "z", "prior")}
    found = OBJECTIVES[name](batch._replace(**shuffled | turned), config_of())
    np.testing.assert_allclose(found, OBJECTIVES[name](batch, config_of()), rtol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_image_is_a_batch(name):
    assert OBJECTIVES[name](batch_of(n=1), config_of()).isfinite()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("logvar", [-15.0, 10.0])
def test_far_and_narrow_and_wide_posteriors_stay_finite(name, logvar):
    batch = batch_of()
    mean = (50 * batch.mean).requires_grad_()
    logvars = torch.full_like(mean, logvar).requires_grad_()
    z = reparameterise(mean, logvars, drawn(N, L, seed=7))
    loss = OBJECTIVES[name](batch._replace(mean=mean, logvar=logvars, z=z), config_of())
    loss.backward()
    assert loss.isfinite() and mean.grad.isfinite().all() and logvars.grad.isfinite().all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_never_asks_for_a_value_of_the_device(name, monkeypatch):
    def refuse(*_):
        raise AssertionError("the host waited for the device")

    for method in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, method, refuse)
    OBJECTIVES[name](batch_of(), config_of())
    # A meta tensor has no values: whatever needs one raises, inside PyTorch too.
    batch = batch_of()
    tensors = {f: v.to("meta") for f, v in batch._asdict().items() if f != "n_train"}
    tensors["mean"].requires_grad_()
    tensors["z"] = tensors["mean"] + tensors["logvar"]
    OBJECTIVES[name](batch._replace(**tensors), config_of()).backward()
    assert tensors["mean"].grad.shape == (N, L)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_draws_nothing(name):
    state = torch.get_rng_state()
    first = OBJECTIVES[name](batch_of(), config_of())
    assert torch.equal(first, OBJECTIVES[name](batch_of(), config_of()))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_stacked_models_of_several_beta_have_the_losses_of_each_alone(name):
    betas = torch.tensor([0.5, 3.0])
    pair = batch_of(seed=1), batch_of(seed=2)
    fields = [f for f in Batch._fields if f != "n_train"]
    stacked = {f: torch.stack([getattr(b, f) for b in pair]) for f in fields}

    def loss(tensors, beta):
        return OBJECTIVES[name](Batch(**tensors, n_train=N_TRAIN), config_of(beta))

    together = torch.func.vmap(loss)(stacked, betas)
    alone = [
        OBJECTIVES[name](b, config_of(beta.item())) for b, beta in zip(pair, betas, strict=True)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def _doubled(batch):
    return {f: v.double() for f, v in batch._asdict().items() if f != "n_train"}


# ---- β-VAE and controlled capacity ----


def test_beta_1_is_the_negative_elbo_and_beta_0_the_distortion():
    batch = batch_of()
    elbo = batch.distortion.mean() + kl_divergence(batch.mean, batch.logvar).sum(1).mean()
    np.testing.assert_allclose(OBJECTIVES["beta"](batch, config_of(1)), elbo, rtol=1e-6)
    assert OBJECTIVES["beta"](batch, config_of(0)) == pytest.approx(batch.distortion.mean().item())


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
def test_no_capacity_is_the_beta_vae(beta):
    config = config_of(beta, capacity=0)
    expected = OBJECTIVES["beta"](batch_of(), config)
    np.testing.assert_allclose(OBJECTIVES["capacity"](batch_of(), config), expected, rtol=1e-6)


@pytest.mark.parametrize("progress", [0.5, 1.0])
def test_a_rate_at_the_capacity_costs_nothing_and_a_nat_off_costs_beta(progress):
    batch = batch_of(progress=progress)
    # One latent carries it all: KL = mean²/2.
    for nats, cost in ((4 * progress, 0), (4 * progress + 1, 3), (4 * progress - 1, 3)):
        mean = torch.zeros(N, L)
        mean[:, 1] = math.sqrt(2 * nats)
        loss = OBJECTIVES["capacity"](
            batch._replace(mean=mean, logvar=torch.zeros(N, L)), config_of(3, capacity=4)
        )
        assert loss - batch.distortion.mean() == pytest.approx(cost, abs=1e-4)


@pytest.mark.parametrize("name", ["beta", "capacity"])
def test_losses_of_parts_average_to_that_of_the_whole(name):
    whole = batch_of(n=6)
    fields = ("distortion", "mean", "logvar", "z", "prior")
    rows = slice(0, 4), slice(4, 6)
    parts = [whole._replace(**{f: getattr(whole, f)[r] for f in fields}) for r in rows]
    losses = [OBJECTIVES[name](part, config_of()) for part in parts]
    expected = OBJECTIVES[name](whole, config_of())
    np.testing.assert_allclose((4 * losses[0] + 2 * losses[1]) / 6, expected, rtol=1e-6)


# ---- total correlation ----


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 9),
    latent_dim=st.integers(1, 6),
    n_train=st.integers(1, 2000),
)
def test_the_three_parts_sum_to_the_log_ratio_of_posterior_and_prior(seed, n, latent_dim, n_train):
    b = batch_of(n, latent_dim, seed, dtype=torch.float64)
    parts = decomposition(b.mean, b.logvar, b.z, n_train)
    posterior = norm(b.mean.numpy(), np.exp(b.logvar.numpy() / 2)).logpdf(b.z.numpy())
    expected = (posterior - norm.logpdf(b.z.numpy())).sum(1).mean()
    np.testing.assert_allclose(sum(parts), expected, rtol=1e-9, atol=1e-9)


def test_each_part_is_that_of_the_second_implementation():
    b = batch_of(n=7, latent_dim=4, dtype=torch.float64)
    expected = reference_decomposition(b.mean.numpy(), b.logvar.numpy(), b.z.numpy(), N_TRAIN)
    found = decomposition(b.mean, b.logvar, b.z, N_TRAIN)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_beta_1_has_the_kl_of_the_elbo_as_its_expectation():
    # The same 4 posteriors, 250 samples of each: the parts' sum asks each sample for itself.
    mean, logvar = drawn(4, L), drawn(4, L, seed=1) - 1
    repeated = mean.repeat(250, 1), logvar.repeat(250, 1)
    z = reparameterise(*repeated, drawn(1000, L, seed=2))
    batch = batch_of(n=1000)._replace(mean=repeated[0], logvar=repeated[1], z=z)
    found = OBJECTIVES["total_correlation"](batch, config_of(1.0))
    log_ratio = 0.5 * (z.square() - drawn(1000, L, seed=2).square() - repeated[1]).sum(1)
    error = log_ratio.std().item() / math.sqrt(1000)
    expected = OBJECTIVES["beta"](batch, config_of(1.0)).item()
    assert found.item() == pytest.approx(expected, abs=4 * error)
    assert 4 * error < 0.1 * kl_divergence(mean, logvar).sum(1).mean()


def aggregate_of(correlation, n=1500, spread=0.25, seed=0):
    """Posteriors whose mixture over n images is N(0, correlation), a sample of each."""
    correlation = torch.tensor(correlation, dtype=torch.float32)
    latent_dim = len(correlation)
    of_means = correlation - spread * torch.eye(latent_dim)
    mean = drawn(n, latent_dim, seed=seed) @ torch.linalg.cholesky(of_means).T
    logvar = torch.full((n, latent_dim), math.log(spread))
    return mean, logvar, reparameterise(mean, logvar, drawn(n, latent_dim, seed=seed + 1))


@pytest.mark.parametrize(
    "correlation",
    [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[1.0, 0.6], [0.6, 1.0]],
        [[1.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 1.0]],
    ],
)
def test_the_total_correlation_of_gaussians_is_half_the_log_determinant(correlation):
    mean, logvar, z = aggregate_of(correlation)
    expected = -0.5 * np.log(np.linalg.det(correlation))
    found = decomposition(mean, logvar, z, n_train=1)
    assert found.total_correlation.item() == pytest.approx(expected, abs=0.06)
    # And every latent by itself is the prior.
    assert found.dimension_wise_kl.item() == pytest.approx(0, abs=0.06)


def test_the_index_code_information_is_that_of_a_gaussian_channel():
    mean, logvar, z = aggregate_of([[1.0, 0.0], [0.0, 1.0]])
    capacity = 2 * 0.5 * math.log(1 / 0.25)  # ½ log(variance / noise variance) of every latent
    found = decomposition(mean, logvar, z, n_train=1).index_code_mi.item()
    assert found == pytest.approx(capacity, abs=0.06)


def test_images_that_never_overlap_are_told_apart_by_log_n_nats():
    mean = 100 * torch.arange(8.0).unsqueeze(1).repeat(1, L)
    logvar = torch.zeros(8, L)
    z = reparameterise(mean, logvar, drawn(8, L))
    assert decomposition(mean, logvar, z, 1).index_code_mi.item() == pytest.approx(math.log(8))
    # S5 is a bound: it adds the log of what the batch stands for.
    stands_for = decomposition(mean, logvar, z, N_TRAIN).index_code_mi.item()
    assert stands_for == pytest.approx(math.log(8 * N_TRAIN))


def test_the_number_of_training_images_shifts_the_parts_and_no_gradient():
    batch = batch_of(dtype=torch.float64)
    values, gradients = [], []
    for n_train in (1, N_TRAIN):
        mean = batch.mean.clone().requires_grad_()
        z = reparameterise(mean, batch.logvar, drawn(N, L, seed=3, dtype=torch.float64))
        parts = decomposition(mean, batch.logvar, z, n_train)
        values.append([part.item() for part in parts])
        parts.total_correlation.backward()
        gradients.append(mean.grad)
    shift = np.array([1, L - 1, -L]) * math.log(N_TRAIN)
    np.testing.assert_allclose(np.subtract(values[1], values[0]), shift, rtol=1e-9)
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-9)


def test_one_latent_has_no_total_correlation():
    b = batch_of(latent_dim=1)
    assert decomposition(b.mean, b.logvar, b.z, N_TRAIN).total_correlation.item() == 0


# ---- maximum mean discrepancy ----


def expected_kernel(shift, variance):
    """E[2L / (2L + |d|²)] of d ~ N(shift, variance): ∫ e^−t E[e^(−t|d|² / 2L)] dt over t > 0."""
    latent_dim = len(shift)

    def integrand(t):
        widths = 1 + t * variance / latent_dim
        return math.exp(-t - t * (shift**2 / widths).sum() / (2 * latent_dim)) / math.sqrt(
            widths.prod()
        )

    return quad(integrand, 0, np.inf)[0]


@pytest.mark.parametrize(
    "shift, scale", [([0.0, 0, 0], [1.0, 1, 1]), ([1.0, -0.5, 0], [0.3, 1, 2])]
)
def test_the_estimate_averages_to_the_closed_form_of_two_gaussians(shift, scale):
    shift, scale = np.array(shift), np.array(scale)
    zero = np.zeros(3)
    expected = (
        expected_kernel(zero, 2 * scale**2)
        + expected_kernel(zero, 2 * np.ones(3))
        - 2 * expected_kernel(shift, scale**2 + 1)
    )
    a, b = drawn(2000, 7, 3, seed=1) * torch.tensor(scale) + torch.tensor(shift), drawn(2000, 7, 3)
    estimates = torch.func.vmap(squared_mmd)(a, b.double())
    error = estimates.std().item() / math.sqrt(2000)
    assert estimates.mean().item() == pytest.approx(expected, abs=4 * error)
    assert 4 * error < 0.02


def test_identical_samples_have_no_discrepancy_and_far_ones_have_2():
    a = drawn(N, L)
    assert squared_mmd(a, a.clone()).item() == 0
    # Two points apart by more than the kernel reaches: 1 + 1 − 2·0.
    apart = squared_mmd(torch.zeros(N, L), torch.full((N, L), 1e4)).item()
    assert apart == pytest.approx(2, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 9), latent_dim=st.integers(1, 20))
def test_the_discrepancy_is_symmetric_and_bounded(seed, n, latent_dim):
    a, b = 3 * drawn(n, latent_dim, seed=seed), drawn(n, latent_dim, seed=seed + 5000)
    found = squared_mmd(a, b).item()
    assert found == pytest.approx(squared_mmd(b, a).item(), abs=1e-6)
    assert abs(found) <= 2


def test_two_images_give_the_kernel_by_hand():
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]])
    # C = 2: k(1) = 2/3, k(3) = 2/11, then a₁b₂ at distance 3 and a₂b₁ at distance 1.
    assert squared_mmd(a, b).item() == pytest.approx(2 / 3 + 2 / 11 - 2 / 11 - 2 / 3, abs=1e-7)
    b = torch.tensor([[2.0], [3.0]])
    assert squared_mmd(a, b).item() == pytest.approx(2 * 2 / 3 - 2 / 11 - 2 / 3, abs=1e-6)


def test_the_discrepancy_draws_a_shifted_and_narrow_sample_to_the_prior():
    # At small n a mean that kept a sample's pairs with itself would pull it together instead.
    a = torch.tensor([1.0, 0.6]).requires_grad_()  # shift, scale
    noise, prior = drawn(4000, 4, L, seed=1), drawn(4000, 4, L, seed=2)
    torch.func.vmap(squared_mmd)(a[0] + a[1] * noise, prior).mean().backward()
    assert a.grad[0] > 0 > a.grad[1]
    at_prior = torch.tensor([0.0, 1.0]).requires_grad_()
    torch.func.vmap(squared_mmd)(at_prior[0] + at_prior[1] * noise, prior).mean().backward()
    assert (at_prior.grad.abs() < 0.1 * a.grad.abs()).all()


def test_lambda_of_beta_is_the_beta_vae_and_beta_0_the_mmd_vae():
    batch = batch_of(progress=0.6)
    config = config_of(3.0, mmd_weight=3.0)
    expected = OBJECTIVES["beta"](batch, config)
    np.testing.assert_allclose(OBJECTIVES["mmd"](batch, config), expected, rtol=1e-6)
    mmd_vae = batch.distortion.mean() + 0.6 * 700 * squared_mmd(batch.z, batch.prior)
    np.testing.assert_allclose(OBJECTIVES["mmd"](batch, config_of(0.0)), mmd_vae, rtol=1e-6)
