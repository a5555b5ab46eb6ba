"""The β-TCVAE (Chen, Li, Grosse, Duvenaud 2018, arXiv:1802.04942)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from brainvae_core.models.objectives.batch import Batch


class Decomposition(NamedTuple):
    """The KL to the prior in three parts (eq. 2 of the paper), nats per image, 0-d each."""

    index_code_mi: Tensor
    total_correlation: Tensor
    dimension_wise_kl: Tensor


def beta_tc_vae(batch: Batch, config):
    """Distortion + index-code MI + β·total correlation + dimension-wise KL.

    The three parts rise with the warm-up. At β = 1 their expectation is the KL of the VAE.
    """
    parts = decomposition(batch.mean, batch.logvar, batch.z, batch.n_train)
    rate = parts.index_code_mi + config.beta * parts.total_correlation + parts.dimension_wise_kl
    return batch.distortion.mean() + batch.progress * rate


def decomposition(mean, logvar, z, n_train: int) -> Decomposition:
    """The three parts by minibatch-weighted sampling (eq. S5), one sample an image.

    Parameters
    ----------
    mean, logvar, z : Tensor, shape (n, latent_dim)
        Row i of ``z`` is a sample of the posterior in row i.
    n_train : int
        Images that the batch stands for. 1 takes the batch's own mixture for the aggregate
        posterior: the choice when the batch holds all images.

    Notes
    -----
    The estimate of log q(z), and of every log q(z_l), has an ``n_train`` that does not depend on
    the model: the total correlation grows by (latent_dim − 1)·log ``n_train`` over that of the
    batch's own mixture, and its gradient by nothing. So values compare at one batch size,
    ``n_train`` and latent_dim only. The sum of the parts is free of it.
    """
    # (n samples, n posteriors, latent_dim): every z under every image's posterior.
    crossed = _log_normal(z.unsqueeze(1), mean, logvar)
    weight = math.log(n_train * len(z))
    log_q = (torch.logsumexp(crossed.sum(2), 1) - weight).mean()
    log_product = (torch.logsumexp(crossed, 1) - weight).sum(1).mean()
    log_conditional = _log_normal(z, mean, logvar).sum(1).mean()
    log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1).mean()
    return Decomposition(log_conditional - log_q, log_q - log_product, log_product - log_prior)


def _log_normal(z, mean, logvar):
    """log N(z; mean, e^logvar) of every latent by itself."""
    squares = (z - mean).square() * torch.exp(-logvar)
    return -0.5 * (squares + logvar + math.log(2 * math.pi))
