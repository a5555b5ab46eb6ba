"""Growing a fitted β-VAE to twice the image size without changing what it computes."""

from __future__ import annotations

import torch

from brainvae_core.models.images import Images
from brainvae_core.models.initialisation import (
    sampled_codes,
    sampled_images,
    spread_layer,
    surround,
    weighted,
)
from brainvae_core.models.vae import BetaVAE

BILINEAR = (0.25, 0.75, 0.75, 0.25)


@torch.no_grad()
def grow(model: BetaVAE, images: Images, seed: int) -> BetaVAE:
    """The same function of images with twice the height and width.

    Parameters
    ----------
    model : BetaVAE
        Its surroundings set by ``initialisation="data"``.
    images : Images, shape (n, 2·height, 2·width)
        The training images, of which those of the model are the means of 2 × 2 pixels.
    seed : int

    Returns
    -------
    BetaVAE
        Of the same codes, to rounding: the code of an image is that of its 2 × 2 block means. Its
        logits are the coarse ones, less their offset, between their pixels' centres interpolated
        bilinearly (zero beyond the border), plus the logit of the finer mean image. New channels
        start as usual and enter with weight zero.
    """
    height, width = model.image_shape
    grown = BetaVAE(model.latent_dim, (2 * height, 2 * width)).to(model.device)
    surround(grown, images)
    old, new = weighted(model.encoder), weighted(grown.encoder)
    _copy(old[1:], new[2:])
    generator = torch.Generator().manual_seed(seed)
    spread_layer(new[0], sampled_images(grown, images, generator), generator)
    block_mean = torch.zeros((4, 4), device=model.device)
    block_mean[1:3, 1:3] = grown.input_scale / model.input_scale / 4
    _set_pair(new[0], block_mean[None], torch.zeros((), device=model.device))
    # ReLU(x) − ReLU(−x) is x: the old first layer reads channel 0 less channel 1.
    new[1].weight.zero_()
    new[1].weight[:, 0], new[1].weight[:, 1] = old[0].weight[:, 0], -old[0].weight[:, 0]
    new[1].bias.copy_(old[0].bias)

    old, new = weighted(model.decoder), weighted(grown.decoder)
    _copy(old[:-1], new[:-2])
    signal = sampled_codes(model, generator)
    for layer in list(model.decoder)[:-1]:
        signal = layer(signal)
    spread_layer(new[-2], signal, generator)
    # A transposed convolution's weight is (in, out, 4, 4).
    _set_pair(new[-2], old[-1].weight[:, 0], old[-1].bias[0], of_outputs=1)
    rise = torch.tensor(BILINEAR, device=model.device)
    new[-1].weight.zero_()
    new[-1].weight[0, 0], new[-1].weight[1, 0] = torch.outer(rise, rise), -torch.outer(rise, rise)
    new[-1].bias.zero_()
    grown.log_sigma.copy_(model.log_sigma)
    return grown


def _copy(old, new):
    for one, other in zip(old, new, strict=True):
        other.weight.copy_(one.weight)
        other.bias.copy_(one.bias)


def _set_pair(layer, weight, bias, of_outputs=0):
    """Make output channels 0 and 1 of a layer a linear map and its negative."""
    for channel, sign in ((0, 1), (1, -1)):
        layer.weight.select(of_outputs, channel).copy_(sign * weight)
        layer.bias[channel] = sign * bias
