"""The Gaussian posterior q(z|x) of every image: its distance from the prior, and a sample of it."""

from __future__ import annotations

import torch


def kl_divergence(mean, logvar):
    """KL(N(mean, e^logvar) ‖ N(0, 1)) of every latent, nats, (n, latent_dim)."""
    # expm1, not exp − 1: a latent close to the prior would lose its last digits.
    return 0.5 * (mean.square() + torch.expm1(logvar) - logvar)


def reparameterise(mean, logvar, noise):
    """The posterior's sample that standard-normal ``noise`` makes, all (n, latent_dim)."""
    return mean + noise * (0.5 * logvar).exp()
