"""The β-VAE (Higgins et al. 2017); β = 1 is the VAE."""

from __future__ import annotations

from brainvae_core.models.objectives.batch import Batch
from brainvae_core.models.posterior import kl_divergence


def beta_vae(batch: Batch, config):
    """−ELBO_β = distortion + β·KL, β rising with the warm-up."""
    kl = kl_divergence(batch.mean, batch.logvar).sum(1)
    return (batch.distortion + batch.progress * config.beta * kl).mean()
