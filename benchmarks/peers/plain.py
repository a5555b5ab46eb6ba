"""The paper's network in PyTorch's own layers, and what a peer's command is told."""

import argparse
import math

import torch
from torch import nn

WARM_UP = 5  # steps before the clock


class PlainVAE(nn.Module):
    """The network of `BetaVAE` in PyTorch's own modules, its parameters in the same order."""

    def __init__(self, latent_dim, image_shape):
        super().__init__()
        more = round(math.log2(image_shape[0] / 10))  # stride-2 layers beyond one
        down = [nn.Conv2d(c, 32, 4, stride=2, padding=1) for c in (1, *[32] * more)]
        layers = [*down, nn.Conv2d(32, 32, 4, padding=1), nn.Flatten()]
        layers += [nn.Linear(768, 256), nn.Linear(256, 256), nn.Linear(256, 2 * latent_dim)]
        self.encoder = nn.ModuleList(layers)
        layers = [nn.Linear(latent_dim, 256), nn.Linear(256, 256), nn.Linear(256, 768)]
        layers += [nn.Unflatten(1, (32, 4, 6)), nn.ConvTranspose2d(32, 32, 4, padding=1)]
        up = [nn.ConvTranspose2d(32, c, 4, stride=2, padding=1) for c in (*[32] * more, 1)]
        self.decoder = nn.ModuleList([*layers, *up])

    def posterior_parameters(self, images):
        return self.run(self.encoder, images[:, None]).chunk(2, dim=1)

    def logits(self, z):
        return self.run(self.decoder, z)[:, 0]

    @staticmethod
    def run(layers, signal):
        for layer in layers[:-1]:
            signal = torch.relu(layer(signal))
        return layers[-1](signal)


def told():
    """The command line: a file of images, the batch, how many steps are timed, and where."""
    options = argparse.ArgumentParser()
    options.add_argument("images")
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--device", default="cpu")
    return options.parse_args()
