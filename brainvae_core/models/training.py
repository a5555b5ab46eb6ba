"""Fitting a β-VAE to arrays: one loop, in the open. Needs torch, numpy, safetensors, tqdm only."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, fields

import numpy as np
import torch
from tqdm import tqdm

from brainvae_core.models.arrays import checked_parts
from brainvae_core.models.beta_vae import BetaVAE
from brainvae_core.models.checkpoint import resume, save_checkpoint
from brainvae_core.models.initialisation import INITIALISATIONS
from brainvae_core.models.objective import LIKELIHOODS, kl_divergence, reparameterise

ACTIVE = 0.01  # variance of a latent's posterior means over brains (Burda et al. 2016)


@dataclass(frozen=True)
class BetaVAEConfig:
    """Everything a fit depends on besides its images. The defaults are the demo's.

    The paper's own settings are ``learning_rate=2e-4, batch_size=64, steps=10_000,
    initialisation="authors", lr_warmup=0, lr_cosine=False, kl_warmup=0`` at 320 × 448.
    """

    latent_dim: int = 8
    beta: float = 3.0  # β = 1 is the vanilla VAE
    likelihood: str = "gaussian"  # a key of LIKELIHOODS
    sigma: float = 0.05  # grey values; β's strength goes with σ²
    seed: int = 0
    steps: int = 1100
    batch_size: int = 16
    learning_rate: float = 1e-3  # 2e-3 did worse than half as well
    weight_decay: float = 0.0  # AdamW; 0 is Adam
    lr_warmup: float = 0.05  # share of the steps
    lr_cosine: bool = True  # fall to zero after the warm-up
    kl_warmup: float = 0.5  # share of the steps over which β rises: keeps latents alive
    initialisation: str = "data"  # a key of INITIALISATIONS
    validate_every: int = 100  # steps
    patience: int = 0  # validations without gain after the KL warm-up; 0 never stops early

    kind = "beta_vae"

    def __post_init__(self):
        for field in fields(self):
            value, wanted = getattr(self, field.name), type(field.default)
            if wanted in (int, float):
                if wanted is int and value != int(value):
                    raise ValueError(f"{field.name}={value!r} must be a whole number")
                # beta=3 and beta=3.0 are one configuration, so they must name one run.
                object.__setattr__(self, field.name, wanted(value))
        for name, allowed in (("likelihood", LIKELIHOODS), ("initialisation", INITIALISATIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown; {', '.join(allowed)} exist"
                )
        for name in (
            "latent_dim",
            "steps",
            "batch_size",
            "validate_every",
            "learning_rate",
            "sigma",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        for name in ("weight_decay", "patience"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("lr_warmup", "kl_warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is a share of the steps, 0 to 1")
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ValueError(f"beta={self.beta} must be finite and not negative")

    @property
    def label(self) -> str:
        return f"beta_vae-L{self.latent_dim}-beta{self.beta:g}-seed{self.seed}"

    def fit(self, train, validation, checkpoint=None, device="auto"):
        return train_beta_vae(self, train, validation, checkpoint=checkpoint, device=device)

    def restore(self, tensors: dict[str, np.ndarray]) -> BetaVAE:
        """The model whose ``state_dict`` these tensors are."""
        model = BetaVAE(self.latent_dim, tensors["input_mean"].shape)
        model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
        return model


def train_beta_vae(config, train, validation, *, checkpoint=None, device="auto"):
    """Fit a β-VAE.

    Parameters
    ----------
    config : BetaVAEConfig
    train, validation : ndarray of float32, shape (n, height, width)
        Grey values in [0, 1]; at least two of each.
    checkpoint : path, optional
        Written at every validation; where it exists the fit goes on from it, to the same weights
        bit for bit as an uninterrupted fit on the same device.
    device : str
        ``"auto"`` (CUDA, else MPS, else CPU) or a torch device.

    Returns
    -------
    model : BetaVAE
    history : list of dict
        A row a validation: ``step``, ``loss``, ``reconstruction``, ``kl`` (training batch, nats per
        image), ``beta`` (as warmed up), ``validation_loss``, ``validation_kl``,
        ``explained_variance``, ``active_latents``, ``seconds``.

    Raises
    ------
    FloatingPointError
        A term became NaN or infinite; says which, when, and what to lower.
    ValueError
        The images are too few, of two sizes, all the same or hold a NaN; or the checkpoint is
        damaged or belongs to another configuration.
    """
    train, validation = checked_parts(train, validation)
    device = pick_device(device)
    torch.manual_seed(config.seed)
    model = BetaVAE(config.latent_dim, train.shape[1:])
    INITIALISATIONS[config.initialisation](model, train, config.seed)
    model.to(device=device, memory_format=torch.channels_last)
    train, validation = (torch.from_numpy(np.ascontiguousarray(a)) for a in (train, validation))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    first, history = resume(checkpoint, config, model, optimiser)
    negative_log_likelihood = LIKELIHOODS[config.likelihood]
    started = time.perf_counter() - (history[-1]["seconds"] if history else 0)
    # A checkpoint may be the one after which patience had run out.
    steps = range(first, first if _out_of_patience(config, history) else config.steps)
    bar = progress_bar(steps, desc=config.label, initial=first, total=config.steps)
    for step in bar:
        # Everything random follows from (seed, step): a resumed fit draws what it would have.
        generator = torch.Generator(device).manual_seed(_mix(config.seed, 1, step))
        images = train[_batch_rows(config, step, len(train))].to(device, non_blocking=True)
        beta = config.beta * _ramp(step, config.kl_warmup * config.steps)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _learning_rate_factor(config, step)

        mean, logvar = model.posterior_parameters(images)
        logits = model.logits(reparameterise(mean, logvar, generator))
        reconstruction = negative_log_likelihood(logits, images, config.sigma).mean()
        kl = kl_divergence(mean, logvar).sum(1).mean()
        loss = reconstruction + beta * kl
        epoch = step // max(len(train) // config.batch_size, 1)
        _stop_if_not_finite(epoch, step, reconstruction=reconstruction.item(), kl=kl.item())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

        done = step + 1
        if done % config.validate_every == 0 or done == config.steps:
            row = {"step": done, "loss": loss.item(), "reconstruction": reconstruction.item()}
            row |= {"kl": kl.item(), "beta": beta, **_validate(model, validation, config)}
            _stop_if_not_finite(epoch, step, validation=row["validation_loss"])
            row["seconds"] = time.perf_counter() - started
            history.append(row)
            bar.set_postfix_str(
                f"held-out {row['validation_loss']:.0f} nats, explains "
                f"{row['explained_variance']:.0%}, {row['active_latents']} of "
                f"{config.latent_dim} latents active"
            )
            save_checkpoint(checkpoint, config, model, optimiser, history)
            if _out_of_patience(config, history):
                break
    return model, history


def diagnose(history: list[dict], latent_dim: int) -> str:
    """What became of the latents, in a sentence."""
    active = history[-1]["active_latents"]
    if active == latent_dim:
        return f"All {latent_dim} latents are active."
    alive = [row["step"] for row in history if row["active_latents"] > 0]
    if active == 0 and not alive:
        return (
            f"Posterior collapse: none of {latent_dim} latents was active at any validation; the "
            'model decodes the mean image. initialisation="data", a longer kl_warmup or a smaller '
            "beta keep latents alive."
        )
    if active == 0:
        return f"Posterior collapse after step {alive[-1]}: none of {latent_dim} latents is active."
    return f"{active} of {latent_dim} latents are active; the others carry nothing."


def pick_device(device: str) -> torch.device:
    """``"auto"`` as CUDA, else MPS, else CPU; anything else as torch reads it."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def progress_bar(iterable, **options):
    """A bar in a terminal, a line now and then in a batch log."""
    if sys.stderr.isatty():
        return tqdm(iterable, dynamic_ncols=True, **options)
    return tqdm(iterable, ncols=110, mininterval=15, maxinterval=60, **options)


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _batch_rows(config, step, n):
    """Rows of one batch, in an order that follows from the seed.

    Every brain once an epoch, but for those left over when the epoch does not divide into batches.
    """
    per_epoch = max(n // config.batch_size, 1)
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng((config.seed, 2, epoch)).permutation(n)
    return torch.from_numpy(order[place * config.batch_size : (place + 1) * config.batch_size])


def _ramp(step, length):
    return min(1.0, (step + 1) / length) if length else 1.0


def _learning_rate_factor(config, step):
    warmup = config.lr_warmup * config.steps
    if step < warmup or not config.lr_cosine:
        return _ramp(step, warmup)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (config.steps - warmup)))


def _stop_if_not_finite(epoch, step, **terms):
    bad = [name for name, value in terms.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(
            f"epoch {epoch}, step {step}: the {' and '.join(bad)} term is not finite; lower "
            "learning_rate, or lengthen lr_warmup"
        )


@torch.no_grad()
def _validate(model, images, config):
    """Held-out −ELBO_β at the full β with one seeded sample, and what the means explain."""
    generator = torch.Generator(model.device).manual_seed(_mix(config.seed, 3))
    loss = kl_sum = residual = total = 0.0
    means = []
    for batch in images.split(64):
        batch = batch.to(model.device)
        mean, logvar = model.posterior_parameters(batch)
        kl = kl_divergence(mean, logvar).sum()
        logits = model.logits(reparameterise(mean, logvar, generator))
        loss += LIKELIHOODS[config.likelihood](logits, batch, config.sigma).sum() + config.beta * kl
        kl_sum += kl
        residual += _sum_of_squares(torch.sigmoid(model.logits(mean)) - batch)
        total += _sum_of_squares(batch - images.mean(0).to(batch))
        means.append(mean)
    active = torch.cat(means).var(0) > ACTIVE
    return {
        "validation_loss": (loss / len(images)).item(),
        "validation_kl": (kl_sum / len(images)).item(),
        "explained_variance": (1 - residual / total).item(),
        "active_latents": int(active.sum()),
    }


def _sum_of_squares(values):
    # Millions of small squares want float64, which MPS does not have.
    values = values.cpu() if values.device.type == "mps" else values
    return values.double().square().sum()


def _out_of_patience(config, history):
    counted = [
        r["validation_loss"] for r in history if r["step"] >= config.kl_warmup * config.steps
    ]
    return bool(
        config.patience
        and len(counted) > config.patience
        and min(counted[-config.patience :]) >= min(counted[: -config.patience])
    )
