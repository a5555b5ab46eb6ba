"""What a VAE minimises, in nats per image: objectives, and the likelihoods under them.

A new objective is one function and one line of ``OBJECTIVES``, a new likelihood one function and
one line of ``LIKELIHOODS``. No function here draws, branches on a value or waits for the device, so
that a training step can be recorded as one CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from brainvae_core.models.devices import Images, mix
from brainvae_core.models.vae import PAPER_SHAPE, BetaVAE, kl_divergence, reparameterise

ACTIVE = 0.01  # variance of a latent's posterior means over brains (Burda et al. 2016)

# ---- likelihoods: −log p(x|z), summed over pixels and as strong at every size ----
# β weighs against a sum over pixels: half the resolution would make it four times as strong. At
# another size than 320 × 448 a Gaussian's σ² goes with the pixels, Bernoulli's nats against them.


class Likelihood(NamedTuple):
    """How decoded logits are held against images.

    ``negative_log(logits, images, log_sigma)`` gives nats per image, (n,), of logits and images
    (n, height, width), computed in the precision of the 0-d ``log_sigma``.
    """

    negative_log: Callable
    variance: float  # of a pixel's grey value at 320 × 448; β is as strong as it is large
    learns_sigma: bool = False  # σ is a weight of the model: β then has no fixed strength


def bernoulli(logits, images, log_sigma):
    """−log p(x|z) of greys in [0, 1] read as probabilities; σ has no meaning here.

    Not normalised on greys: never on one axis with log-likelihoods.
    """
    logits, images = logits.to(log_sigma.dtype), images.to(log_sigma.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, images, reduction="none")
    return loss.flatten(1).sum(1) / share_of_pixels(images.shape[1:])


def gaussian(logits, images, log_sigma):
    """−log N(x; sigmoid(logits), σ²), the constant log σ√2π of every pixel included."""
    # In bfloat16 a pixel's error would have 2 or 3 digits, and the sum over pixels none to spare.
    residuals = torch.sigmoid(logits.to(log_sigma.dtype)) - images
    squares = residuals.square().flatten(1).sum(1)
    constant = images[0].numel() * (log_sigma + 0.5 * math.log(2 * math.pi))
    return 0.5 * torch.exp(-2 * log_sigma) * squares + constant


LIKELIHOODS = {
    # Greys under Bernoulli weigh like σ² ≈ x(1 − x) ≈ 0.2; the Gaussian is as strong.
    "gaussian": Likelihood(gaussian, variance=0.2),
    "bernoulli": Likelihood(bernoulli, variance=0.2),
    # The other reading of the authors' base code: the sum of squares, with no factor.
    "squares": Likelihood(gaussian, variance=0.5),
    "gaussian_learned": Likelihood(gaussian, variance=0.2, learns_sigma=True),
}


def share_of_pixels(image_shape) -> float:
    """Pixels of an image over those of the paper's 320 × 448."""
    return math.prod(image_shape) / math.prod(PAPER_SHAPE)


def sigma_at(likelihood: str, image_shape) -> float:
    """σ of a pixel's grey value at which β is as strong as at the paper's size."""
    return math.sqrt(_known(likelihood).variance * share_of_pixels(image_shape))


def effective_strength(beta: float, likelihood: str = "gaussian") -> float:
    """How much KL weighs against one pixel's squared error: βσ² over the number of pixels.

    Comparable across likelihoods as β, in nats per nat, is not, and the same at every size.
    """
    return beta * _known(likelihood).variance / math.prod(PAPER_SHAPE)


def _known(likelihood):
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood={likelihood!r} is unknown; {', '.join(LIKELIHOODS)} exist")
    return LIKELIHOODS[likelihood]


# ---- objectives: ``objective(batch, config) -> Tensor``, shape () ----


class Batch(NamedTuple):
    """A batch after its pass through the model; all tensors of one precision, float32 or wider."""

    distortion: Tensor  # (n,), −log p(x|z), nats per image
    mean: Tensor  # (n, latent_dim), with the next two: the posterior and the sample decoded
    logvar: Tensor
    z: Tensor
    prior: Tensor  # (n, latent_dim), fresh standard-normal draws: not those that made z
    progress: Tensor  # (), share of the warm-up that is done, in (0, 1]; 1 at validation
    n_train: int  # images in the training set


def beta_vae(batch: Batch, config):
    """The β-VAE (Higgins et al. 2017); β = 1 is the VAE.

    −ELBO_β = distortion + β·KL, β rising with the warm-up.
    """
    kl = kl_divergence(batch.mean, batch.logvar).sum(1)
    return (batch.distortion + batch.progress * config.beta * kl).mean()


def capacity_vae(batch: Batch, config):
    """The β-VAE of controlled capacity (Burgess et al. 2018, arXiv:1804.03599, eq. 8).

    Distortion + β·|KL − C|, with C rising over the warm-up to ``capacity`` nats. β is the paper's
    γ and does not rise. As in eq. 8 the distance is of every image, not of the batch's mean: the
    loss of a set is its images' mean, however they are batched.
    """
    kl = kl_divergence(batch.mean, batch.logvar).sum(1)
    target = batch.progress * config.capacity
    return (batch.distortion + config.beta * (kl - target).abs()).mean()


def beta_tc_vae(batch: Batch, config):
    """The β-TCVAE (Chen, Li, Grosse, Duvenaud 2018, arXiv:1802.04942).

    Distortion + index-code MI + β·total correlation + dimension-wise KL, the three rising with the
    warm-up. At β = 1 their expectation is the KL of the VAE.
    """
    mi, total_correlation, dimension_wise = decomposition(*batch[1:4], batch.n_train)
    rate = mi + config.beta * total_correlation + dimension_wise
    return batch.distortion.mean() + batch.progress * rate


def info_vae(batch: Batch, config):
    """InfoVAE with the maximum mean discrepancy (Zhao, Song, Ermon 2019, arXiv:1706.02262).

    Distortion + β·KL + (λ − β)·MMD²(z, prior), both rising with the warm-up: the paper's
    (1 − α)·KL + (α + λ − 1)·MMD² with α = 1 − β and λ = ``mmd_weight``, in nats per image. As MMD²
    is at most 2, λ must be large to weigh against a sum over pixels.
    """
    kl = kl_divergence(batch.mean, batch.logvar).sum(1).mean()
    discrepancy = squared_mmd(batch.z, batch.prior)
    rate = config.beta * kl + (config.mmd_weight - config.beta) * discrepancy
    return batch.distortion.mean() + batch.progress * rate


OBJECTIVES = {
    "beta": beta_vae,
    "capacity": capacity_vae,
    "total_correlation": beta_tc_vae,
    "mmd": info_vae,
}


def decomposition(mean, logvar, z, n_train: int) -> tuple[Tensor, Tensor, Tensor]:
    """The KL to the prior as index-code MI, total correlation and dimension-wise KL, 0-d each.

    Nats per image (eq. 2 of the β-TCVAE) by minibatch-weighted sampling (eq. S5). ``n_train`` is
    what the batch stands for; 1, where it holds all images, takes the batch's own mixture for the
    aggregate posterior. The total correlation grows with it by (latent_dim − 1)·log ``n_train`` and
    its gradient by nothing: values compare at one batch size, ``n_train`` and latent_dim only.
    """
    # (n samples, n posteriors, latent_dim): every z under every image's posterior.
    crossed = _log_normal(z.unsqueeze(1), mean, logvar)
    weight = math.log(n_train * len(z))
    log_q = (torch.logsumexp(crossed.sum(2), 1) - weight).mean()
    log_product = (torch.logsumexp(crossed, 1) - weight).sum(1).mean()
    log_conditional = _log_normal(z, mean, logvar).sum(1).mean()
    log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1).mean()
    return log_conditional - log_q, log_q - log_product, log_product - log_prior


def _log_normal(z, mean, logvar):
    """log N(z; mean, e^logvar) of every latent by itself."""
    squares = (z - mean).square() * torch.exp(-logvar)
    return -0.5 * (squares + logvar + math.log(2 * math.pi))


def squared_mmd(a, b):
    """MMD² of the distributions that two independent samples (n, latent_dim) were drawn from, 0-d.

    The unbiased estimate of Gretton et al. 2012 (JMLR 13), eq. 4, hence now and then below 0: means
    that kept i = j would pull small batches of codes together. The kernel is the inverse
    multiquadric k = C / (C + distance²), C = 2·latent_dim, the mean squared distance of two draws
    of the prior: unlike a Gaussian's its gradient still reaches codes far out.
    """
    n = len(a)
    crossed = _kernel(a, b)
    pairs = _kernel(a, a) + _kernel(b, b) - crossed - crossed.T
    return (pairs.sum() - pairs.diagonal().sum()) / max(n * (n - 1), 1)


def _kernel(a, b):
    """Inverse multiquadric of every row of a with every row of b, (len(a), len(b))."""
    scale = 2 * a.shape[1]
    # Not cdist: the gradient of its root is not finite at 0.
    squares = (a.unsqueeze(1) - b).square().sum(2)
    return scale / (scale + squares)


# ---- of a model and images ----


def terms_of(model, images, noise, prior, progress, config, n_train, log_sigma) -> Batch:
    """What an objective reads, of one batch."""
    mean, logvar = model.posterior_parameters(images)
    z = reparameterise(mean, logvar, noise)
    distortion = LIKELIHOODS[config.likelihood].negative_log(model.logits(z), images, log_sigma)
    return Batch(distortion, mean, logvar, z, prior, progress, n_train)


def elbo_terms(model: BetaVAE, config, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distortion and rate of images under a fitted model, float64, each (n,); −ELBO is their sum.

    These are −log p(x|z) at one sample of z, and KL(q(z|x) ‖ p(z)), nats per image.

    Parameters
    ----------
    model : BetaVAE
    config : BetaVAEConfig
        What it was fitted with; its seed draws the samples of z.
    images : ndarray, shape (n, height, width)
    """
    blocks = _held_out(model, Images(images, model.device), config, len(images))
    parts = [
        torch.stack([batch.distortion, kl_divergence(batch.mean, batch.logvar).sum(1)])
        for _, batch in blocks
    ]
    distortion, rate = torch.cat(parts, dim=1).cpu().double().numpy()
    return distortion, rate


@torch.no_grad()
def _held_out(model, images: Images, config, n_train):
    """Each block of images with its terms at full strength; the same noise every time."""
    generator = torch.Generator().manual_seed(mix(config.seed, 3))
    full = torch.ones((), device=model.device)
    for block in images.blocks():
        shape = (len(block), config.latent_dim)
        noise, prior = (torch.randn(shape, generator=generator).to(model.device) for _ in range(2))
        draws = block, noise, prior, full
        yield block, terms_of(model, *draws, config, n_train, model.log_sigma)


@torch.no_grad()
def validate(model, images: Images, config, n_train):
    """The objective, rate and distortion of held-out images, and what the means explain."""
    loss = distortion = rate = residual = 0.0
    means = []
    for block, batch in _held_out(model, images, config, n_train):
        loss += len(block) * OBJECTIVES[config.objective](batch, config)
        distortion += batch.distortion.sum()
        rate += kl_divergence(batch.mean, batch.logvar).sum()
        residual += _sum_of_squares(torch.sigmoid(model.logits(batch.mean)) - block)
        means.append(batch.mean)
    active = torch.cat(means).var(0) > ACTIVE
    return {
        "validation_loss": (loss / len(images)).item(),
        "validation_reconstruction": (distortion / len(images)).item(),
        "validation_kl": (rate / len(images)).item(),
        "explained_variance": 1 - residual.item() / images.sum_of_squares,
        "active_latents": int(active.sum()),
    }


def _sum_of_squares(values):
    # Millions of small squares want float64, which MPS does not have.
    values = values.cpu() if values.device.type == "mps" else values
    return values.double().square().sum()
