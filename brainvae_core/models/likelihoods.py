"""What −log p(x|z) is: nats per image, summed over its pixels and as strong at every size.

β weighs against a sum over pixels, so half the resolution would make it four times as strong. Every
likelihood is therefore given at the paper's size, 320 × 448: at another size a Gaussian's σ² goes
with the number of pixels, and Bernoulli's nats go against it. β = 3 is one strength everywhere.

A new likelihood is one function and one line of ``LIKELIHOODS``. No function here waits for the
device, so that a training step can be recorded as one CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from brainvae_core.models.vae import PAPER_SHAPE


class Likelihood(NamedTuple):
    """How decoded logits are held against images.

    Attributes
    ----------
    negative_log : callable
        ``negative_log(logits, images, log_sigma)``: nats per image, (n,), of logits and images
        (n, height, width). ``log_sigma`` is a 0-d tensor in the precision to compute in, whatever
        that of logits and images.
    variance : float
        The variance of a pixel's grey value at 320 × 448; β is as strong as it is large.
    learns_sigma : bool
        Whether σ is a weight of the model, trained from there on; β then has no fixed strength.
    """

    negative_log: Callable
    variance: float
    learns_sigma: bool = False


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

    Comparable across likelihoods as β is not, and the same at every size.

    Parameters
    ----------
    beta : float
        Nats per nat.
    likelihood : str
        A key of ``LIKELIHOODS``.

    Raises
    ------
    ValueError
        An unknown likelihood.
    """
    return beta * _known(likelihood).variance / math.prod(PAPER_SHAPE)


def _known(likelihood):
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood={likelihood!r} is unknown; {', '.join(LIKELIHOODS)} exist")
    return LIKELIHOODS[likelihood]
