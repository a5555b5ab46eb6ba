"""How a β-VAE's weights start, and how it grows to twice the image size.

Registered brains are nearly identical: an encoder fed raw greys starts with almost the same code
for every brain, which the sampling noise drowns. ``"data"`` starts where brains already differ;
``"authors"`` is the released model's own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from brainvae_core.models.images import Images
from brainvae_core.models.vae import BetaVAE, weighted

OUTPUT_GAIN = 0.03  # the first decoded images are close to the mean image
FIRST_LOGVAR = -5.0  # the first samples are close to the posterior mean
SAMPLE = 64  # brains, or codes, that the statistics are taken over
BILINEAR = (0.25, 0.75, 0.75, 0.25)


def authors(model: BetaVAE, images: Images, seed: int) -> None:
    """Leave what the constructor did: Kaiming on Conv2d and Linear, PyTorch's default elsewhere."""


@torch.no_grad()
def data(model: BetaVAE, images: Images, seed: int) -> None:
    """Statistics of the training images in place of assumptions about them.

    Images enter centred and scaled; the output starts at the logit of the mean image. Every layer
    is He-initialised with its effective fan-in, each channel's pre-activation is centred, and each
    layer is scaled so that its spread *between brains* (decoder: between codes) is 1.
    """
    _surround(model, images)
    generator = torch.Generator().manual_seed(seed)
    _spread_all(model.encoder, _sampled_images(model, images, generator), generator)
    _spread_all(model.decoder, _sampled_codes(model, generator), generator)
    to_code, to_image = model.encoder[-1], model.decoder[-1]
    to_code.weight[model.latent_dim :] *= 0.01
    to_code.bias[model.latent_dim :] = FIRST_LOGVAR
    to_image.weight.mul_(OUTPUT_GAIN)
    to_image.bias.zero_()


INITIALISATIONS = {"data": data, "authors": authors}


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
    _surround(grown, images)
    old, new = weighted(model.encoder), weighted(grown.encoder)
    _copy(old[1:], new[2:])
    generator = torch.Generator().manual_seed(seed)
    _spread(new[0], _sampled_images(grown, images, generator), generator)
    block_mean = torch.zeros((4, 4), device=model.device)
    block_mean[1:3, 1:3] = grown.input_scale / model.input_scale / 4
    _set_pair(new[0], block_mean[None], torch.zeros((), device=model.device))
    # ReLU(x) − ReLU(−x) is x: the old first layer reads channel 0 less channel 1.
    new[1].weight.zero_()
    new[1].weight[:, 0], new[1].weight[:, 1] = old[0].weight[:, 0], -old[0].weight[:, 0]
    new[1].bias.copy_(old[0].bias)

    old, new = weighted(model.decoder), weighted(grown.decoder)
    _copy(old[:-1], new[:-2])
    signal = model.decoder[:-1](_sampled_codes(model, generator))
    _spread(new[-2], signal, generator)
    # A transposed convolution's weight is (in, out, 4, 4).
    _set_pair(new[-2], old[-1].weight[:, 0], old[-1].bias[0], of_outputs=1)
    rise = torch.tensor(BILINEAR, device=model.device)
    new[-1].weight.zero_()
    new[-1].weight[0, 0], new[-1].weight[1, 0] = torch.outer(rise, rise), -torch.outer(rise, rise)
    new[-1].bias.zero_()
    grown.log_sigma.copy_(model.log_sigma)
    return grown


def _surround(model, images):
    """Centre and scale what enters a model by the training images, offset what leaves it."""
    mean = torch.from_numpy(images.mean)
    scale = (images.sum_of_squares / (len(images) * mean.numel())) ** 0.5
    if scale == 0:
        raise ValueError(f"the {len(images)} training images are all the same; nothing to learn")
    model.input_mean.copy_(mean.float())
    model.input_scale.fill_(scale)
    model.output_offset.copy_(torch.logit(mean, eps=1e-3).float())


def _sampled_images(model, images, generator):
    """Some training images as the encoder sees them, (n, 1, height, width)."""
    rows = torch.randperm(len(images), generator=generator)[:SAMPLE].numpy()
    return ((images.take(np.sort(rows)) - model.input_mean) / model.input_scale).unsqueeze(1)


def _sampled_codes(model, generator):
    """Draws of the prior, (n, latent_dim)."""
    return torch.randn((SAMPLE, model.latent_dim), generator=generator).to(model.device)


def _spread_all(network, signal, generator):
    for layer in network:
        if hasattr(layer, "weight"):
            _spread(layer, signal, generator)
        signal = layer(signal)


def _spread(layer, signal, generator):
    """Draw a layer's weights by He, spread 1 and every channel centred over a signal."""
    fan_in = layer.weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):
        # PyTorch counts out·k² inputs; in·k²/s² reach each output.
        fan_in = layer.in_channels * np.prod(layer.kernel_size) / np.prod(layer.stride)
    drawn = torch.empty_like(layer.weight, device="cpu")  # the same draws on every device
    layer.weight.copy_(drawn.normal_(std=(2 / fan_in) ** 0.5, generator=generator))
    nn.init.zeros_(layer.bias)
    response = layer(signal)
    spread = (response - response.mean(0)).square().mean().sqrt()
    layer.weight.div_(spread)
    layer.bias.copy_(-response.mean([0, *range(2, response.ndim)]) / spread)


def _copy(old, new):
    for one, other in zip(old, new, strict=True):
        other.weight.copy_(one.weight)
        other.bias.copy_(one.bias)


def _set_pair(layer, weight, bias, of_outputs=0):
    """Make output channels 0 and 1 of a layer a linear map and its negative."""
    for channel, sign in ((0, 1), (1, -1)):
        layer.weight.select(of_outputs, channel).copy_(sign * weight)
        layer.bias[channel] = sign * bias
