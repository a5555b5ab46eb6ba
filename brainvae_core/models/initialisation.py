"""How a β-VAE's weights start.

Registered brains are nearly identical: an encoder fed raw greys starts with almost the same code
for every brain, which the sampling noise drowns. ``"data"`` starts where brains already differ;
``"authors"`` is the released model's own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

OUTPUT_GAIN = 0.03  # the first decoded images are close to the mean image
FIRST_LOGVAR = -5.0  # the first samples are close to the posterior mean
SAMPLE = 64  # brains, or codes, that the statistics are taken over


def authors(model, images, seed):
    """Leave what the constructor did: Kaiming on Conv2d and Linear, PyTorch's default elsewhere."""


@torch.no_grad()
def data(model, images, seed):
    """Statistics of the training `Images` in place of assumptions about them.

    Images enter centred and scaled; the output starts at the logit of the mean image. Every layer
    is He-initialised with its effective fan-in, each channel's pre-activation is centred, and each
    layer is scaled so that its spread *between brains* (decoder: between codes) is 1.
    """
    surround(model, images)
    generator = torch.Generator().manual_seed(seed)
    _spread_layers(model.encoder, sampled_images(model, images, generator), generator)
    to_code = model.encoder[-1]
    to_code.weight[model.latent_dim :] *= 0.01
    to_code.bias[model.latent_dim :] = FIRST_LOGVAR
    _spread_layers(model.decoder, sampled_codes(model, generator), generator)
    last = weighted(model.decoder)[-1]
    last.weight.mul_(OUTPUT_GAIN)
    last.bias.zero_()


INITIALISATIONS = {"data": data, "authors": authors}


@torch.no_grad()
def surround(model, images):
    """Centre and scale what enters a model by the training `Images`, offset what leaves it."""
    mean = torch.from_numpy(images.mean)
    scale = (images.sum_of_squares / (len(images) * mean.numel())) ** 0.5
    if scale == 0:
        raise ValueError(f"the {len(images)} training images are all the same; nothing to learn")
    model.input_mean.copy_(mean.float())
    model.input_scale.fill_(scale)
    model.output_offset.copy_(torch.logit(mean, eps=1e-3).float())


def weighted(network) -> list[nn.Module]:
    """The layers of an encoder or decoder that have weights, in order."""
    return [layer for layer in network if hasattr(layer, "weight")]


def sampled_images(model, images, generator):
    """Some training images as the encoder sees them, (n, 1, height, width)."""
    rows = torch.randperm(len(images), generator=generator)[:SAMPLE].numpy()
    return ((images.take(np.sort(rows)) - model.input_mean) / model.input_scale).unsqueeze(1)


def sampled_codes(model, generator):
    """Draws of the prior, (n, latent_dim)."""
    return torch.randn((SAMPLE, model.latent_dim), generator=generator).to(model.device)


def spread_layer(layer, signal, generator):
    """Draw a layer's weights, spread 1 and every channel centred over a signal."""
    _he_by_effective_fan_in(layer, generator)
    response = layer(signal)
    spread = (response - response.mean(0)).square().mean().sqrt()
    layer.weight.div_(spread)
    other_axes = [0, *range(2, response.ndim)]
    layer.bias.copy_(-response.mean(other_axes) / spread)


def _spread_layers(network, signal, generator):
    for layer in network:
        if hasattr(layer, "weight"):
            spread_layer(layer, signal, generator)
        signal = layer(signal)


def _he_by_effective_fan_in(layer, generator):
    """PyTorch counts out·k² inputs of a transposed convolution; in·k²/s² reach each output."""
    if isinstance(layer, nn.ConvTranspose2d):
        fan_in = layer.in_channels * np.prod(layer.kernel_size) / np.prod(layer.stride)
    else:
        fan_in = layer.weight[0].numel()
    drawn = torch.empty_like(layer.weight, device="cpu")  # the same draws on every device
    layer.weight.copy_(drawn.normal_(std=(2 / fan_in) ** 0.5, generator=generator))
    nn.init.zeros_(layer.bias)
