"""What −log p(x|z) is: nats per image, summed over its pixels.

A new likelihood is one function and one line of ``LIKELIHOODS``. No function here waits for the
device, so that a training step can be recorded as one CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F


class Likelihood(NamedTuple):
    """How decoded logits are held against images.

    Attributes
    ----------
    negative_log : callable
        ``negative_log(logits, images, log_sigma)``: nats per image, (n,), of logits and images
        (n, height, width). ``log_sigma`` is a 0-d tensor in the precision to compute in, whatever
        that of logits and images.
    learns_sigma : bool
        Whether ``log_sigma`` is a parameter of the model, trained from the configured σ on.
    variance : callable
        The variance of one pixel's grey value, of the (Python) σ.
    """

    negative_log: Callable
    learns_sigma: bool
    variance: Callable[[float], float]


def bernoulli(logits, images, log_sigma):
    """−log p(x|z) of greys in [0, 1] read as probabilities; σ has no meaning here.

    Not normalised on greys: never on one axis with log-likelihoods.
    """
    logits, images = logits.to(log_sigma.dtype), images.to(log_sigma.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, images, reduction="none")
    return loss.flatten(1).sum(1)


def gaussian(logits, images, log_sigma):
    """−log N(x; sigmoid(logits), σ²), the constant log σ√2π of every pixel included."""
    # In bfloat16 a pixel's error would have 2 or 3 digits, and the sum over pixels none to spare.
    residuals = torch.sigmoid(logits.to(log_sigma.dtype)) - images
    squares = residuals.square().flatten(1).sum(1)
    constant = images[0].numel() * (log_sigma + 0.5 * math.log(2 * math.pi))
    return 0.5 * torch.exp(-2 * log_sigma) * squares + constant


LIKELIHOODS = {
    # Greys under Bernoulli weigh like σ² ≈ x(1 − x) ≈ 0.2.
    "bernoulli": Likelihood(bernoulli, learns_sigma=False, variance=lambda sigma: 0.2),
    "gaussian": Likelihood(gaussian, learns_sigma=False, variance=lambda sigma: sigma**2),
    "gaussian_learned": Likelihood(gaussian, learns_sigma=True, variance=lambda sigma: sigma**2),
}


def effective_strength(beta: float, likelihood: str, sigma: float, image_shape) -> float:
    """How much KL weighs against one pixel's squared error: βσ² / n_pixels.

    Comparable across likelihoods and resolutions as β is not.

    Parameters
    ----------
    beta : float
        Nats per nat.
    likelihood : str
        A key of ``LIKELIHOODS``; greys under Bernoulli weigh like σ² = 0.2.
    sigma : float
        Grey values; where σ is learned, the value to judge at.
    image_shape : (height, width)

    Raises
    ------
    ValueError
        An unknown likelihood.
    """
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood={likelihood!r} is unknown; {', '.join(LIKELIHOODS)} exist")
    return beta * LIKELIHOODS[likelihood].variance(sigma) / math.prod(image_shape)
