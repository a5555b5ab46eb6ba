"""A β-VAE's weights: how they start, how they move (Muon and Adam), and how they grow.

Registered brains are nearly identical: an encoder fed raw greys starts with almost the same code
for every brain, which the sampling noise drowns. ``"data"`` starts where brains already differ;
``"authors"`` is the released model's own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from brainvae_core.models.devices import Images
from brainvae_core.models.vae import BetaVAE, weighted

OUTPUT_GAIN = 0.03  # the first decoded images are close to the mean image
FIRST_LOGVAR = -5.0  # the first samples are close to the posterior mean
SAMPLE = 64  # brains, or codes, that the statistics are taken over
BILINEAR = (0.25, 0.75, 0.75, 0.25)

# Jordan 2024, kellerjordan.github.io/posts/muon
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
MOMENTUM = 0.95
# Shares of Muon's rate at which these layers learn; what they gain is in benchmarks/RESULTS.md.
OF_ENCODER, OF_LINEAR = 0.5, 0.5
# Share of Adam's rate beside Muon at which biases learn: at the whole rate channels die.
OF_BIASES = 0.25


# ---- how they start ----


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
    """The same function of images (n, 2·height, 2·width), the training images at twice the size.

    The code of an image is that of its 2 × 2 block means, to rounding. Logits are the coarse ones,
    less their offset, between their pixels' centres interpolated bilinearly (zero beyond the
    border), plus the logit of the finer mean image. New channels enter with weight zero.
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


# ---- how they move ----


class Optimiser:
    """Steps of a model's float32 weights.

    Gradients arise in ``working``: the model itself, or its copy in lower precision, which every
    step brings up to date. With ``optimiser="muon"`` the weights of every layer but the first and
    the last of encoder and decoder are Muon's, and what is left Adam's, biases at a share of its
    rate. Learning rates are multiplied with ``factor``, read anew at every step.
    """

    def __init__(self, model, working, config):
        self.pairs = list(zip(model.parameters(), working.parameters(), strict=True))
        self.factor = torch.ones((), device=model.device)
        by_shape = {}
        for layer, source, share in _hidden(model, working) if config.optimiser == "muon" else ():
            shape = tuple(_matrix(layer, layer.weight).shape)
            by_shape.setdefault(shape, []).append((layer, source, config.muon_rate * share))
        rows = config.muon_rows
        self.muon = [Muon(*zip(*same, strict=True), rows) for same in by_shape.values()]
        hidden = {id(layer.weight) for group in self.muon for layer in group.layers}
        self.others = [(p, source) for p, source in self.pairs if id(p) not in hidden]
        weights = [weight for weight, _ in self.others]
        biases = [w for w in weights if self.muon and w.ndim == 1]
        slow = {id(weight) for weight in biases}
        rates = config.learning_rate * torch.tensor([1, OF_BIASES], device=model.device)
        self.rates, self.highest_rates = rates, rates.clone()
        groups = [w for w in weights if id(w) not in slow], biases
        self.adam = torch.optim.Adam(
            # Rates as tensors: a CUDA graph reads them anew.
            [{"params": g, "lr": r} for g, r in zip(groups, rates, strict=True) if g],
            betas=(0.9, config.adam_beta2),
            fused=model.device.type != "mps",
            capturable=model.device.type == "cuda",
        )
        for weight in weights:  # made at once, so that a checkpoint can be read into it
            self.adam.state[weight] = {
                "step": torch.zeros((), device=model.device),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }

    @torch.no_grad()
    def step(self):
        """One step; nothing here waits for the device."""
        torch.mul(self.highest_rates, self.factor, out=self.rates)
        for weight, source in self.others:
            weight.grad = source.grad.to(weight.dtype)
        self.adam.step()
        for group in self.muon:
            group.step(self.factor)
        self.bring_up_to_date()

    @torch.no_grad()
    def bring_up_to_date(self):
        """Copy the weights to where gradients arise, if that is elsewhere."""
        copied = [(source, weight) for weight, source in self.pairs if source is not weight]
        if copied:
            torch._foreach_copy_(*zip(*copied, strict=True))

    def forget_gradients(self):
        for weight, source in self.pairs:
            weight.grad = source.grad = None

    def state(self) -> dict[str, Tensor]:
        """All that a next step follows from besides weights and gradients, by name."""
        of_adam = enumerate(self.adam.state.values())
        tensors = {f"adam.{i}.{name}": value for i, s in of_adam for name, value in s.items()}
        return tensors | {f"muon.{i}": group.momentum for i, group in enumerate(self.muon)}


class Muon:
    """Orthogonalised momentum of matrices of one shape: one batched product for all.

    The ``layers``' weights are optimised, a convolution's as the matrix (out, in·k·k), by the
    gradients of the ``sources``, in whose precision matrices are orthogonalised, in blocks of at
    most ``rows`` rows. The step is the learning rate times √max(1, rows / columns) of a block.
    """

    def __init__(self, layers, sources, rates, rows):
        self.layers, self.sources = layers, sources
        first = _matrix(layers[0], layers[0].weight)
        self.momentum = torch.zeros((len(layers), *first.shape), device=first.device)
        self.rows = next(n for n in range(min(rows, len(first)), 0, -1) if len(first) % n == 0)
        tall = max(1, self.rows / first.shape[1]) ** 0.5
        self.rates = tall * torch.tensor(rates, device=first.device)[:, None, None]

    def step(self, factor: Tensor):
        gradients = [
            _matrix(layer, source.weight.grad)
            for layer, source in zip(self.layers, self.sources, strict=True)
        ]
        precision = gradients[0].dtype
        gradients = torch.stack(gradients).to(self.momentum.dtype)
        self.momentum.lerp_(gradients, 1 - MOMENTUM)
        ahead = gradients.lerp(self.momentum, MOMENTUM)  # Nesterov's
        blocks = ahead.to(precision).reshape(-1, self.rows, ahead.shape[2])
        updates = orthogonalised(blocks).to(self.momentum.dtype).reshape(ahead.shape)
        updates *= self.rates * factor
        for layer, update in zip(self.layers, updates, strict=True):
            layer.weight.sub_(_weight(layer, update))


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with their singular vectors, and singular values near 1."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalised(matrices.mT).mT
    a, b, c = NEWTON_SCHULZ
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _hidden(model, working):
    """Every layer but the first and last of each part, its copy, and its share of Muon's rate."""
    parts = (model.encoder, working.encoder, OF_ENCODER), (model.decoder, working.decoder, 1.0)
    for part, copy, share in parts:
        for layer, source in zip(weighted(part)[1:-1], weighted(copy)[1:-1], strict=True):
            yield layer, source, share * (OF_LINEAR if isinstance(layer, nn.Linear) else 1.0)


def _matrix(layer, weight):
    """A weight as (out, everything else)."""
    return (weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight).flatten(1)


def _weight(layer, matrix):
    """A matrix as the layer's weight."""
    if isinstance(layer, nn.ConvTranspose2d):
        channels_in, channels_out, *kernel = layer.weight.shape
        return matrix.reshape(channels_out, channels_in, *kernel).transpose(0, 1)
    return matrix.reshape(layer.weight.shape)
