"""What a VAE minimises, in nats per image: the β-VAE's objective over one of the likelihoods.

A new likelihood is one function and one line of ``LIKELIHOODS``. No function of a training step
draws, branches on a value or waits for the device, so that a step can be one CUDA graph.
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
    (n, height, width) and the 0-d ``log_sigma``, all of one precision, float32 or wider.
    """

    negative_log: Callable
    variance: float  # of a pixel's grey value at 320 × 448; β is as strong as it is large


def bernoulli(logits, images, log_sigma):
    """−log p(x|z) of greys in [0, 1] read as probabilities; σ has no meaning here.

    Not normalised on greys: never on one axis with log-likelihoods.
    """
    loss = F.binary_cross_entropy_with_logits(logits, images, reduction="none")
    return loss.flatten(1).sum(1) / share_of_pixels(images.shape[1:])


def gaussian(logits, images, log_sigma):
    """−log N(x; sigmoid(logits), σ²), the constant log σ√2π of every pixel included."""
    squares = (torch.sigmoid(logits) - images).square().flatten(1).sum(1)
    constant = images[0].numel() * (log_sigma + 0.5 * math.log(2 * math.pi))
    return 0.5 * torch.exp(-2 * log_sigma) * squares + constant


LIKELIHOODS = {
    # Greys under Bernoulli weigh like σ² ≈ x(1 − x) ≈ 0.2; the Gaussian is as strong.
    "gaussian": Likelihood(gaussian, variance=0.2),
    "bernoulli": Likelihood(bernoulli, variance=0.2),
    # The other reading of the authors' base code: the sum of squares, with no factor.
    "squares": Likelihood(gaussian, variance=0.5),
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


# ---- the objective, of a model and images ----


class Terms(NamedTuple):
    """Of a batch; all of one precision, float32 or wider."""

    distortion: Tensor  # (n,), −log p(x|z) at one sample of z, nats per image
    kl: Tensor  # (n, latent_dim), of q(z|x) from the prior, nats per image
    mean: Tensor  # (n, latent_dim), of q(z|x)

    def loss(self, beta: float, progress: Tensor) -> Tensor:
        """−ELBO_β (Higgins et al. 2017), 0-d; β rises with the warm-up's ``progress``, to 1."""
        return (self.distortion + progress * beta * self.kl.sum(1)).mean()


def terms_of(model, images, noise, likelihood: str) -> Terms:
    """What the objective is made of, with the posterior sampled by ``noise``."""
    mean, logvar = model.posterior_parameters(images)
    z = reparameterise(mean, logvar, noise)
    distortion = LIKELIHOODS[likelihood].negative_log(model.logits(z), images, model.log_sigma)
    return Terms(distortion, kl_divergence(mean, logvar), mean)


def elbo_terms(model: BetaVAE, config, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distortion and rate of images under a fitted model, float64, each (n,); −ELBO is their sum.

    These are −log p(x|z) at one sample of z, and KL(q(z|x) ‖ p(z)), nats per image. A Gaussian's
    constant, log σ√2π of every pixel, is in the distortion, so that the sum bounds −log p(x);
    Bernoulli's nats of greys have none and bound nothing.

    Parameters
    ----------
    model, config : BetaVAE, BetaVAEConfig
        The config's seed draws the samples of z.
    images : ndarray, shape (n, height, width)
    """
    blocks = _held_out(model, Images(images, model.device), config)
    parts = [torch.stack([terms.distortion, terms.kl.sum(1)]) for _, terms in blocks]
    distortion, rate = torch.cat(parts, dim=1).cpu().double().numpy()
    return distortion, rate


@torch.no_grad()
def _held_out(model, images: Images, config):
    """Each block of images with its terms; the same noise every time."""
    generator = torch.Generator().manual_seed(mix(config.seed, 3))
    for block in images.blocks():
        shape = (len(block), config.latent_dim)
        # The second draw is for nothing, but scores that are kept were made with it.
        noise, _ = (torch.randn(shape, generator=generator).to(model.device) for _ in range(2))
        yield block, terms_of(model, block, noise, config.likelihood)


@torch.no_grad()
def validate(model, images: Images, config):
    """The objective, rate and distortion of held-out images, and what the means explain."""
    full = torch.ones((), device=model.device)
    loss = distortion = rate = residual = 0.0
    means = []
    for block, terms in _held_out(model, images, config):
        loss += len(block) * terms.loss(config.beta, full)
        distortion += terms.distortion.sum()
        rate += terms.kl.sum()
        apart = torch.sigmoid(model.logits(terms.mean)) - block
        # Millions of small squares want float64, which MPS does not have.
        apart = apart.cpu() if apart.device.type == "mps" else apart
        residual += apart.double().square().sum()
        means.append(terms.mean)
    active = torch.cat(means).var(0) > ACTIVE
    return {
        "validation_loss": (loss / len(images)).item(),
        "validation_reconstruction": (distortion / len(images)).item(),
        "validation_kl": (rate / len(images)).item(),
        "explained_variance": 1 - residual.item() / images.sum_of_squares,
        "active_latents": int(active.sum()),
    }


def diagnose(history: list[dict], latent_dim: int) -> str:
    """What became of the latents, in a sentence."""
    active = history[-1]["active_latents"]
    if active == latent_dim:
        return f"All {latent_dim} latents are active."
    if active:
        return f"{active} of {latent_dim} latents are active; the others carry nothing."
    alive = [row["step"] for row in history if row["active_latents"] > 0]
    if alive:
        return f"Posterior collapse after step {alive[-1]}: none of {latent_dim} latents is active."
    return (
        f"Posterior collapse: none of {latent_dim} latents was active at any validation; the "
        'model decodes the mean image. initialisation="data", a longer kl_warmup or a smaller '
        "beta keep latents alive."
    )
