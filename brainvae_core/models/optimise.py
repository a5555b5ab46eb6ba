"""Muon for the hidden weight matrices and Adam for the rest, or Adam for all, as one optimiser."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from brainvae_core.models.vae import weighted

# Jordan 2024, kellerjordan.github.io/posts/muon
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
MOMENTUM = 0.95
# Shares of Muon's rate at which these layers learn; what they gain is in benchmarks/RESULTS.md.
OF_ENCODER, OF_LINEAR = 0.5, 0.5
# Share of Adam's rate beside Muon at which biases learn: at the whole rate channels die.
OF_BIASES = 0.25


class Optimiser:
    """Steps of a model's weights on gradients that arise in a copy of it.

    Parameters
    ----------
    model : BetaVAE
        Its float32 weights are what is optimised; ``log_sigma`` too, where it asks for a gradient.
    working : BetaVAE
        Where gradients arise: the model itself, or its copy in lower precision, which every step
        brings up to date.
    config : BetaVAEConfig
        Its ``optimiser``: ``"adam"``, or ``"muon"`` for the weights of every layer but the first
        and the last of encoder and decoder, and Adam for what is left, biases at a share of its
        rate.

    Attributes
    ----------
    factor : Tensor, shape ()
        What the learning rates are multiplied with, read anew at every step.
    """

    def __init__(self, model, working, config):
        self.pairs = list(zip(model.parameters(), working.parameters(), strict=True))
        self.factor = torch.ones((), device=model.device)
        by_shape = {}
        for layer, source, share in _hidden(model, working) if config.optimiser == "muon" else ():
            shape = tuple(_matrix(layer, layer.weight).shape)
            by_shape.setdefault(shape, []).append((layer, source, config.muon_rate * share))
        self.muon = [Muon(*zip(*same, strict=True)) for same in by_shape.values()]
        hidden = {id(layer.weight) for group in self.muon for layer in group.layers}
        self.others = [(p, source) for p, source in self.pairs if id(p) not in hidden]
        weights = [weight for weight, _ in self.others]
        if model.log_sigma.requires_grad:
            weights.append(model.log_sigma)
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
        self.adam.zero_grad()  # σ's too

    def state(self) -> dict[str, Tensor]:
        """All that a next step follows from besides weights and gradients, by name."""
        of_adam = enumerate(self.adam.state.values())
        tensors = {f"adam.{i}.{name}": value for i, s in of_adam for name, value in s.items()}
        return tensors | {f"muon.{i}": group.momentum for i, group in enumerate(self.muon)}


class Muon:
    """Orthogonalised momentum of matrices of one shape: one batched product for all.

    Parameters
    ----------
    layers : sequence of Module
        Whose ``weight`` is optimised. A convolution's weight is the matrix (out, in·k·k).
    sources : sequence of Module
        Whose ``weight.grad`` is read, in whose precision matrices are orthogonalised.
    rates : sequence of float
        Learning rates; the step is that times √max(1, rows / columns).
    """

    def __init__(self, layers, sources, rates):
        self.layers, self.sources = layers, sources
        first = _matrix(layers[0], layers[0].weight)
        self.momentum = torch.zeros((len(layers), *first.shape), device=first.device)
        tall = max(1, first.shape[0] / first.shape[1]) ** 0.5
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
        updates = orthogonalised(ahead.to(precision)).to(self.momentum.dtype)
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
