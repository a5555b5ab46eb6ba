"""InfoVAE with the maximum mean discrepancy (Zhao, Song, Ermon 2019, arXiv:1706.02262)."""

from __future__ import annotations

from brainvae_core.models.objectives.batch import Batch
from brainvae_core.models.posterior import kl_divergence


def info_vae(batch: Batch, config):
    """Distortion + β·KL + (λ − β)·MMD²(z, prior), both rising with the warm-up.

    The paper's (1 − α)·KL + (α + λ − 1)·MMD² with α = 1 − β and λ = ``mmd_weight``, in nats per
    image. β = 0 is its MMD-VAE, λ = β the β-VAE; below β the discrepancy would be rewarded. As
    MMD² is at most 2, λ must be large to weigh against a sum over pixels.
    """
    kl = kl_divergence(batch.mean, batch.logvar).sum(1).mean()
    discrepancy = squared_mmd(batch.z, batch.prior)
    rate = config.beta * kl + (config.mmd_weight - config.beta) * discrepancy
    return batch.distortion.mean() + batch.progress * rate


def squared_mmd(a, b):
    """MMD² of the distributions that two samples (n, latent_dim) were drawn from, 0-d.

    Parameters
    ----------
    a, b : Tensor, shape (n, latent_dim)
        As many of each, independent of each other.

    Returns
    -------
    Tensor, shape ()
        The unbiased estimate, hence now and then below 0; exactly 0 where a is b. A batch of one
        has no pair to learn from and gives 0.

    Notes
    -----
    Gretton et al. 2012 (JMLR 13), eq. 4: the mean over pairs i ≠ j of
    k(aᵢ, aⱼ) + k(bᵢ, bⱼ) − k(aᵢ, bⱼ) − k(aⱼ, bᵢ). Means that kept i = j would pull small batches
    of codes together. The kernel is the inverse multiquadric k = C / (C + distance²), C = 2·
    latent_dim, the mean squared distance of two draws of the prior: unlike a Gaussian's its
    gradient still reaches codes far out, and one bandwidth serves every latent_dim.
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
