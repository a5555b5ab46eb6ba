"""The β-VAE of the paper, with the layers of the authors' released model."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from brainvae_core.models.devices import batches, checked_codes, checked_images, keep_freed_memory

CHANNELS, HIDDEN, KERNEL = 32, 256, 4
COARSEST = (5, 7)  # what the stride-2 layers end on
STRIDED = 6  # of them at 320 × 448, which is the paper's size
PAPER_SHAPE = tuple(side * 2**STRIDED for side in COARSEST)
CHANNELS_LAST = torch.channels_last  # faster for these kernels on CPU and GPU, and no other numbers


class BetaVAE(nn.Module):
    """Encoder and decoder of k + 1 convolutions and three fully connected layers each.

    ``image_shape`` is (5·2ᵏ, 7·2ᵏ) with k = 1…6; 320 × 448 is the authors' network
    (github.com/nerdslab/brainsynth). A smaller image has one stride-2 convolution less on each side
    for every halving, all else equal, so that `grow` can go from one to the other. Images enter as
    (x − ``input_mean``) / ``input_scale``, and ``output_offset`` is added to the output's logits:
    zero, one and zero until ``initialisation="data"`` sets them.
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
        self.to(memory_format=CHANNELS_LAST)
        self.eval()

    @property
    def n_parameters(self) -> int:
        """Number of trained weights, 730,289 at ``latent_dim=8`` and 320 × 448."""
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
        # In bfloat16 a pixel's error would have 2 or 3 digits, and a sum over pixels none to spare.
        return layers.squeeze(1).to(self.input_mean.dtype) + self.output_offset

    # ---- NumPy, for everybody else ----

    @torch.no_grad()
    def posterior(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of q(z|x), float32 (n, latent_dim), of greys in [0, 1]."""
        images = checked_images(images, self.image_shape, greys=True)
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
            if isinstance(layer, nn.Conv2d | nn.Linear):
                name = "convolution" if isinstance(layer, nn.Conv2d) else "fully connected"
                shapes.append((name, tuple(signal.shape[1:])))
        return [*shapes[:-1], ("mean and log-variance", shapes[-1][1])]

    def tensors(self) -> dict[str, np.ndarray]:
        """What is kept on disk, by name."""
        return {k: np.ascontiguousarray(v.cpu().numpy()) for k, v in self.state_dict().items()}


def kl_divergence(mean, logvar):
    """KL(N(mean, e^logvar) ‖ N(0, 1)) of every latent, nats, (n, latent_dim)."""
    # expm1, not exp − 1: a latent close to the prior would lose its last digits.
    return 0.5 * (mean.square() + torch.expm1(logvar) - logvar)


def reparameterise(mean, logvar, noise):
    """The posterior's sample that standard-normal ``noise`` makes, all (n, latent_dim)."""
    return mean + noise * (0.5 * logvar).exp()


def weighted(network) -> list[nn.Module]:
    """The layers of an encoder or decoder that have weights, in order."""
    return [layer for layer in network if hasattr(layer, "weight")]


def halvings(image_shape) -> int:
    """How often an image is halved until it is the network's coarsest; ValueError if never."""
    sizes = {(COARSEST[0] * 2**k, COARSEST[1] * 2**k): k for k in range(STRIDED, 0, -1)}
    if image_shape not in sizes:
        allowed = ", ".join(f"{height}×{width}" for height, width in sizes)
        raise ValueError(
            f"image_shape {'×'.join(map(str, image_shape))} does not fit the network; {allowed} do"
        )
    return sizes[image_shape]


def _with_relu(*layers):
    return [module for layer in layers for module in (layer, nn.ReLU(inplace=True))]


# ---- the 4 × 4 convolutions with PyTorch's parameters and numbers, arranged to be faster ----
# Chosen by CPU time layer by layer.


class FromImage(nn.Conv2d):
    """A 4 × 4, stride-2, pad-1 convolution of one channel, which leaves vector lanes empty.

    Run as a 2 × 2 convolution of four channels, one for each place in a block of 2 × 2 pixels.
    """

    def __init__(self, out_channels: int):
        super().__init__(1, out_channels, kernel_size=4, stride=2, padding=1)

    def forward(self, x):
        n, _, height, width = x.shape
        rows, columns = height // 2 + 1, width // 2 + 1
        # Row 2·i + p, of the image and of the kernel, is place p of block i. (·, i, p, j, q)
        blocks = F.pad(x, (1, 1, 1, 1)).reshape(n, rows, 2, columns, 2).permute(0, 2, 4, 1, 3)
        blocks = blocks.reshape(n, 4, rows, columns)
        kernel = self.weight.reshape(-1, 2, 2, 2, 2).permute(0, 2, 4, 1, 3).reshape(-1, 4, 2, 2)
        return F.conv2d(
            blocks.contiguous(memory_format=CHANNELS_LAST),
            kernel.contiguous(memory_format=CHANNELS_LAST),
            self.bias,
        )


class Upsampling(nn.ConvTranspose2d):
    """A transposed convolution whose bias has its own gradient: oneDNN is three times faster so."""

    def forward(self, x):
        return _Upsample.apply(x, self.weight, self.bias, self.stride, self.padding)


class UpsamplingToImage(nn.ConvTranspose2d):
    """A 4 × 4, stride-2, pad-1 transposed convolution to one channel, run as `FromImage` is."""

    def __init__(self, in_channels: int):
        super().__init__(in_channels, 1, kernel_size=4, stride=2, padding=1)

    def forward(self, x):
        return _ToImage.apply(x, self.weight) + self.bias


class _Upsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding
        return F.conv_transpose2d(x, weight, bias, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        to_x, to_weight = _gradients(gradient, *ctx.saved_tensors, *ctx.geometry)
        return to_x, to_weight, gradient.sum((0, 2, 3)), None, None


class _ToImage(torch.autograd.Function):
    """(n, channels, h, w) and (channels, 1, 4, 4) to (n, 1, 2h, 2w)."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        # Row 2·i + p of the kernel reaches place p of the block i further on. (c, i, p, j, q)
        kernel = weight.reshape(-1, 2, 2, 2, 2).flip(1, 3).permute(2, 4, 0, 1, 3)
        kernel = kernel.reshape(4, -1, 2, 2).contiguous(memory_format=CHANNELS_LAST)
        blocks = F.conv2d(x, kernel, padding=1).permute(0, 2, 3, 1)  # (n, h + 1, w + 1, 4)
        # F.pixel_shuffle, in a third of its time on a CPU.
        image = blocks.unflatten(3, (2, 2)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return image[:, None, 1:-1, 1:-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        # The transposed convolution's own: a convolution of one channel, which is fast.
        return _gradients(gradient, *ctx.saved_tensors, (2, 2), (1, 1))


def _gradients(gradient, x, weight, stride, padding):
    """Of a transposed convolution, to its input and its weight."""
    return torch.ops.aten.convolution_backward(
        gradient.contiguous(memory_format=CHANNELS_LAST),
        x,
        weight,
        bias_sizes=None,
        stride=stride,
        padding=padding,
        dilation=[1, 1],
        transposed=True,
        output_padding=[0, 0],
        groups=1,
        output_mask=[True, True, False],
    )[:2]
