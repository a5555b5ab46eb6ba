"""The β-VAE of controlled capacity (Burgess et al. 2018, arXiv:1804.03599, eq. 8)."""

from __future__ import annotations

from brainvae_core.models.objectives.batch import Batch
from brainvae_core.models.posterior import kl_divergence


def capacity_vae(batch: Batch, config):
    """Distortion + β·|KL − C|, with C rising over the warm-up to ``capacity`` nats.

    β is the paper's γ and does not rise: it holds the KL at C where it exceeds the distortion that
    one more nat would save. As in eq. 8 the distance is taken of every image (some implementations
    take it of the batch's mean): the loss of a set is then the mean over its images, however they
    are batched.
    """
    kl = kl_divergence(batch.mean, batch.logvar).sum(1)
    target = batch.progress * config.capacity
    return (batch.distortion + config.beta * (kl - target).abs()).mean()
