"""What an objective is told about a batch of n images."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """A batch after its pass through the model; all tensors of one precision, float32 or wider.

    Attributes
    ----------
    distortion : Tensor, shape (n,)
        −log p(x|z), nats per image.
    mean, logvar, z : Tensor, shape (n, latent_dim)
        The posterior's parameters and the sample that was decoded.
    prior : Tensor, shape (n, latent_dim)
        Fresh standard-normal draws: not those that made ``z``.
    progress : Tensor, shape ()
        Share of the warm-up that is done, in (0, 1]; 1 at validation.
    n_train : int
        Images in the training set.
    """

    distortion: Tensor
    mean: Tensor
    logvar: Tensor
    z: Tensor
    prior: Tensor
    progress: Tensor
    n_train: int
