"""What a VAE minimises: −ELBO_β in nats per image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def bernoulli(logits, images, sigma):
    """−log p(x|z) of greys in [0, 1] read as probabilities: summed over pixels, (n,).

    Not normalised on greys: never on one axis with log-likelihoods. ``sigma`` has no meaning here.
    """
    loss = F.binary_cross_entropy_with_logits(logits, images, reduction="none")
    return loss.flatten(1).sum(1)


def gaussian(logits, images, sigma):
    """−log N(x; sigmoid(logits), σ²): summed over pixels, (n,)."""
    squares = (torch.sigmoid(logits) - images).square().flatten(1).sum(1)
    return squares / (2 * sigma**2) + images[0].numel() * math.log(sigma * math.sqrt(2 * math.pi))


LIKELIHOODS = {"bernoulli": bernoulli, "gaussian": gaussian}


def kl_divergence(mean, logvar):
    """KL(N(mean, e^logvar) ‖ N(0, 1)) of every latent, nats, (n, latent_dim)."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


def reparameterise(mean, logvar, generator):
    """One sample of the posterior, (n, latent_dim)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    return mean + noise * (0.5 * logvar).exp()


def effective_strength(beta: float, likelihood: str, sigma: float, image_shape) -> float:
    """How much KL weighs against one pixel's squared error: βσ² / n_pixels.

    Comparable across likelihoods and resolutions as β is not. Greys under Bernoulli weigh like
    σ² ≈ x(1 − x) ≈ 0.2.
    """
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood={likelihood!r} is unknown; {', '.join(LIKELIHOODS)} exist")
    variance = sigma**2 if likelihood == "gaussian" else 0.2
    return beta * variance / math.prod(image_shape)
