"""How a β-VAE's weights start.

Registered brains are nearly identical: an encoder fed raw greys sends almost the same code for
every brain, the sampling noise drowns it, and the KL term kills every latent within a hundred
steps. ``"data"`` starts where brains already differ; ``"authors"`` is the released model's own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

OUTPUT_GAIN = 0.03  # the first decoded images are close to the mean image
FIRST_LOGVAR = -5.0  # the first samples are close to the posterior mean
SAMPLE = 64  # brains that the statistics are taken over


def authors(model, images, seed):
    """Leave what the constructor did: Kaiming on Conv2d and Linear, PyTorch's default elsewhere."""


@torch.no_grad()
def data(model, images, seed):
    """Statistics of the training `Images` in place of assumptions about them.

    Images enter centred and scaled; the output starts at the logit of the mean image. Every layer
    is He-initialised with its effective fan-in, each channel's pre-activation is centred, and each
    layer is scaled so that its spread *between brains* (decoder: between codes) is 1.
    """
    mean = torch.from_numpy(images.mean)
    scale = (images.sum_of_squares / (len(images) * mean.numel())) ** 0.5
    if scale == 0:
        raise ValueError(f"the {len(images)} training images are all the same; nothing to learn")
    model.input_mean.copy_(mean.float())
    model.input_scale.fill_(scale)
    model.output_offset.copy_(torch.logit(mean, eps=1e-3).float())

    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(images), generator=generator)[:SAMPLE].numpy()
    sample = images.take(np.sort(rows))
    _spread_layers(model.encoder, ((sample - model.input_mean) / model.input_scale).unsqueeze(1))
    to_code = model.encoder[-1]
    to_code.weight[model.latent_dim :] *= 0.01
    to_code.bias[model.latent_dim :] = FIRST_LOGVAR
    codes = torch.randn((SAMPLE, model.latent_dim), generator=generator).to(model.device)
    _spread_layers(model.decoder, codes)
    last = [m for m in model.decoder.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)][-1]
    last.weight.mul_(OUTPUT_GAIN)
    last.bias.zero_()


INITIALISATIONS = {"data": data, "authors": authors}


def _spread_layers(network, signal):
    layers = [m for m in network.modules() if not isinstance(m, nn.Sequential)]
    for layer in layers:
        if not hasattr(layer, "weight"):
            signal = layer(signal)
            continue
        _he_by_effective_fan_in(layer)
        response = layer(signal)
        spread = (response - response.mean(0)).square().mean().sqrt()
        layer.weight.div_(spread)
        other_axes = [0, *range(2, response.ndim)]
        layer.bias.copy_(-response.mean(other_axes) / spread)
        signal = layer(signal)


def _he_by_effective_fan_in(layer):
    """PyTorch counts out·k² inputs of a transposed convolution; in·k²/s² reach each output."""
    if isinstance(layer, nn.ConvTranspose2d):
        fan_in = layer.in_channels * np.prod(layer.kernel_size) / np.prod(layer.stride)
    else:
        fan_in = layer.weight[0].numel()
    drawn = torch.empty_like(layer.weight, device="cpu")  # the same draws on every device
    layer.weight.copy_(nn.init.normal_(drawn, std=(2 / fan_in) ** 0.5))
    nn.init.zeros_(layer.bias)
