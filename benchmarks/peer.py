"""A peer to be timed beside ours: the paper's network and a plain loop, in PyTorch's own layers.

Written as the authors' base code (1Konny/Beta-VAE) goes about it: images from a DataLoader in
shuffled batches, float32, NCHW, Adam, Bernoulli loss on logits summed over pixels, numbers logged
at once.
"""

import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

WARM_UP = 5  # steps before the clock


class PlainVAE(nn.Module):
    """The network of `BetaVAE`, its parameters in the same order."""

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


def seconds_a_plain_step(path, batch_size: int, device, steps: int) -> float:
    """Seconds a step over images in a file, from the first step after the warm-up on."""
    images, cuda = np.load(path), device.type == "cuda"
    options = {"shuffle": True, "drop_last": True, "num_workers": 2, "pin_memory": cuda}
    loader = DataLoader(torch.from_numpy(images), batch_size, **options)  # one image at a time
    model = PlainVAE(8, images.shape[1:]).to(device)
    adam, log = torch.optim.Adam(model.parameters(), lr=2e-4), []
    while len(log) < WARM_UP + steps:
        for batch in loader:
            if len(log) == WARM_UP:
                start = time.perf_counter()
            batch = batch.to(device, non_blocking=True)
            mean, logvar = model.posterior_parameters(batch)
            logits = model.logits(mean + torch.exp(logvar / 2) * torch.randn_like(mean))
            reconstruction = F.binary_cross_entropy_with_logits(logits, batch, reduction="sum")
            reconstruction = reconstruction / len(batch)
            kl = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum(1).mean()
            loss = reconstruction + 3 * kl
            adam.zero_grad()
            loss.backward()
            adam.step()
            log.append((loss.item(), reconstruction.item(), kl.item()))
            if len(log) == WARM_UP + steps:
                break
    if cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps
