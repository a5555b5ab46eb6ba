"""The β-VAE of the paper, with the layers of the authors' released model."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from brainvae_core.models.arrays import batches, checked_codes, checked_images, keep_freed_memory
from brainvae_core.models.layers import FromImage, Upsampling, UpsamplingToImage

CHANNELS, HIDDEN, KERNEL = 32, 256, 4
COARSEST = (5, 7)  # what the stride-2 layers end on
STRIDED = 6  # of them at 320 × 448, which is the paper's size
PAPER_SHAPE = tuple(side * 2**STRIDED for side in COARSEST)


class BetaVAE(nn.Module):
    """Encoder and decoder of k + 1 convolutions and three fully connected layers each.

    Parameters
    ----------
    latent_dim : int
        Number of latents, at least 1.
    image_shape : (height, width)
        (5·2ᵏ, 7·2ᵏ) with k = 1…6; 320 × 448 (k = 6) is the authors' network. A smaller image has
        one stride-2 convolution less on each side for every halving, all else equal, so that
        `grow` can go from one to the other.

    Attributes
    ----------
    n_parameters : int
        730,289 at ``latent_dim=8`` and 320 × 448.
    input_mean, input_scale, output_offset : Tensor
        Surroundings of the network: images enter as (x − mean)/scale and the offset is added to
        the output's logits. Zero, one and zero until ``initialisation="data"`` sets them.

    Notes
    -----
    Architecture: github.com/nerdslab/brainsynth. `encode`, `decode`, `reconstruct` and `posterior`
    take and give NumPy arrays; `forward` is what training uses.
    """

    def __init__(self, latent_dim: int, image_shape: tuple[int, int]):
        super().__init__()
        keep_freed_memory()
        n_halvings = halvings(tuple(image_shape))
        if latent_dim < 1:
            raise ValueError(f"latent_dim={latent_dim}: a model has at least 1 latent")
        self.latent_dim, self.image_shape = latent_dim, tuple(image_shape)
        coarse = (CHANNELS, COARSEST[0] - 1, COARSEST[1] - 1)
        flat = math.prod(coarse)

        strides = [2] * (n_halvings - 1)
        down = [nn.Conv2d(CHANNELS, CHANNELS, KERNEL, s, padding=1) for s in (*strides, 1)]
        self.encoder = nn.Sequential(
            *_with_relu(FromImage(CHANNELS), *down),
            nn.Flatten(),
            *_with_relu(nn.Linear(flat, HIDDEN), nn.Linear(HIDDEN, HIDDEN)),
            nn.Linear(HIDDEN, 2 * latent_dim),
        )
        up = [Upsampling(CHANNELS, CHANNELS, KERNEL, s, padding=1) for s in (1, *strides)]
        self.decoder = nn.Sequential(
            *_with_relu(nn.Linear(latent_dim, HIDDEN), nn.Linear(HIDDEN, HIDDEN)),
            *_with_relu(nn.Linear(HIDDEN, flat)),
            nn.Unflatten(1, coarse),
            *_with_relu(*up),
            UpsamplingToImage(CHANNELS),
        )
        self.register_buffer("input_mean", torch.zeros(image_shape))
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("output_offset", torch.zeros(image_shape))
        self.register_buffer("log_sigma", torch.zeros(()))  # of a Gaussian likelihood
        for layer in self.modules():
            # As the authors': Kaiming for these two, PyTorch's default for transposed ones.
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
        # Faster for these kernels on CPU and GPU alike, and no other numbers.
        self.to(memory_format=torch.channels_last)
        self.eval()

    @property
    def n_parameters(self) -> int:
        """Number of trained weights."""
        return sum(p.numel() for p in self.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are; images go there and numpy arrays come back."""
        return self.input_mean.device

    # ---- torch, for training: images (n, height, width) ----

    def posterior_parameters(self, images):
        """Mean and log-variance of q(z|x), each (n, latent_dim)."""
        scaled = ((images - self.input_mean) / self.input_scale).to(self.encoder[0].weight.dtype)
        return self.encoder(scaled.unsqueeze(1)).to(self.input_mean.dtype).chunk(2, dim=1)

    def logits(self, z):
        """Logits of the decoded images, (n, height, width)."""
        layers = self.decoder(z.to(self.decoder[0].weight.dtype))
        return layers.squeeze(1).to(self.input_mean.dtype) + self.output_offset

    # ---- NumPy, for everybody else ----

    @torch.no_grad()
    def posterior(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of q(z|x).

        Parameters
        ----------
        images : ndarray, shape (n, height, width)
            Grey values in [0, 1].

        Returns
        -------
        mean, std : ndarray of float32, each (n, latent_dim)
            In prior standard deviations.

        Raises
        ------
        ValueError
            Images of another shape, or with a NaN.
        """
        images = checked_images(images, self.image_shape)
        parts = [self.posterior_parameters(b) for b in batches(images, self.device)]
        mean, logvar = (torch.cat(p).cpu().numpy() for p in zip(*parts, strict=True))
        return mean, np.exp(logvar / 2)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Posterior means of images (n, height, width), (n, latent_dim) float32."""
        return self.posterior(images)[0]

    @torch.no_grad()
    def decode(self, z: np.ndarray) -> np.ndarray:
        """Mean images of codes (n, latent_dim), (n, height, width) float32 in [0, 1]."""
        z = checked_codes(z, self.latent_dim)
        parts = [torch.sigmoid(self.logits(b)).cpu() for b in batches(z, self.device)]
        return torch.cat(parts).numpy()

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """``decode(encode(images))``."""
        return self.decode(self.encode(images))

    @torch.no_grad()
    def layer_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """What each layer of the encoder gives for one image: (name, shape), image first."""
        signal = torch.zeros((1, 1, *self.image_shape), device=self.device)
        shapes = [("image", tuple(signal.shape[1:]))]
        for layer in self.encoder:
            signal = layer(signal)
            if isinstance(layer, nn.Conv2d | nn.Sequential):
                shapes.append(("convolution", tuple(signal.shape[1:])))
            elif isinstance(layer, nn.Linear):
                shapes.append(("fully connected", tuple(signal.shape[1:])))
        return [*shapes[:-1], ("mean and log-variance", shapes[-1][1])]

    def tensors(self) -> dict[str, np.ndarray]:
        """What is kept on disk, by name."""
        return {k: np.ascontiguousarray(v.cpu().numpy()) for k, v in self.state_dict().items()}


def _with_relu(*layers):
    return [module for layer in layers for module in (layer, nn.ReLU(inplace=True))]


def halvings(image_shape) -> int:
    """How often an image is halved until it is the network's coarsest; ValueError if never."""
    for k in range(1, STRIDED + 1):
        if image_shape == (COARSEST[0] * 2**k, COARSEST[1] * 2**k):
            return k
    allowed = ", ".join(f"{COARSEST[0] * 2**k}×{COARSEST[1] * 2**k}" for k in range(STRIDED, 0, -1))
    raise ValueError(
        f"image_shape {'×'.join(map(str, image_shape))} does not fit the network; {allowed} do"
    )
