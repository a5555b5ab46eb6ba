"""Fitting β-VAEs to arrays: one loop, in the open. Needs torch, numpy, safetensors, tqdm only."""

from __future__ import annotations

import math
import sys
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from brainvae_core.models.beta_vae import BetaVAE
from brainvae_core.models.checkpoint import resume, save_checkpoint
from brainvae_core.models.devices import (
    WARM_UP,
    captured,
    memory_named,
    on_stream,
    pick_device,
    shared_threads,
)
from brainvae_core.models.images import Images, on_device
from brainvae_core.models.initialisation import INITIALISATIONS
from brainvae_core.models.likelihoods import LIKELIHOODS
from brainvae_core.models.objectives import OBJECTIVES, Batch
from brainvae_core.models.posterior import kl_divergence, reparameterise
from brainvae_core.models.schedule import Schedule, mix

ACTIVE = 0.01  # variance of a latent's posterior means over brains (Burda et al. 2016)


class Fitted(NamedTuple):
    """What became of one fit."""

    model: BetaVAE
    history: list[dict]
    failure: str | None  # why it stopped before its end; the model is then of no use


def train_together(configs, train, validation, *, checkpoints=None, device="auto"):
    """Fit several β-VAEs to the same images at once, each to what it would be fitted to alone.

    Every model has a thread of its own, and a stream of its own on a GPU, where a step is one CUDA
    graph. The numbers are those of single fits up to rounding: a CPU shares out its threads.

    Parameters
    ----------
    configs : sequence of BetaVAEConfig
    train, validation : ndarray of float32, shape (n, height, width), or array-like, or Images
        Grey values in [0, 1]; at least two of each. An array-like that is no ndarray (it has
        ``shape`` and gives NumPy for rows) is streamed where the device has no room for it;
        `Images` are on the device already.
    checkpoints : sequence of paths, optional
        One a model, written at every validation; where one exists its fit goes on from it, on a CPU
        to the same weights bit for bit as an uninterrupted fit.
    device : str
        ``"auto"`` (CUDA, else MPS, else CPU) or a torch device.

    Returns
    -------
    list of Fitted
        ``model``, ``history`` and ``failure`` of each. A loss that stops being finite ends its own
        fit alone and is told in ``failure``. The history has a row a validation: ``step``;
        ``loss``, ``reconstruction`` and ``kl`` of the last training batch (nats per image),
        ``progress`` of the KL warm-up, ``sigma``; ``validation_loss`` (the objective at full
        strength), ``validation_reconstruction`` (distortion D), ``validation_kl`` (rate R; the
        held-out ELBO is −D − R), ``explained_variance``, ``active_latents``, ``seconds``.

    Raises
    ------
    OutOfDeviceMemory
        The device does not hold so many models at once; says what was needed and what lowers it.
    ValueError
        The images are too few, of two sizes, all the same or hold a NaN; or a checkpoint is
        damaged or belongs to another configuration.
    """
    device = pick_device(device)
    stop, counting = threading.Event(), threading.Lock()
    n = len(configs)
    batch_size = min(max(config.batch_size for config in configs), len(train))
    # Eager convolutions in float32 are in float32 too, which is not PyTorch's default.
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with memory_named(n, batch_size, np.shape(train)[1:], device), exact:
        images = on_device(train, validation, device)
        paths = checkpoints or [None] * n
        fits = [Fit(c, *images, path, device) for c, path in zip(configs, paths, strict=True)]
        bar = progress_bar(
            desc=configs[0].label if n == 1 else f"{n} models together",
            initial=sum(fit.done for fit in fits),
            total=sum(config.steps for config in configs),
        )

        def tick():
            with counting:
                bar.update()

        with bar, shared_threads(n):
            if n == 1 or device.type == "mps":  # which has one queue
                for fit in fits:
                    fit.run(tick, stop)
            else:
                _run_in_threads(fits, tick, stop)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return [Fitted(fit.model, fit.history, fit.failure) for fit in fits]


class Fit:
    """One model being fitted, and what its next step reads, in tensors that stay where they are."""

    def __init__(self, config, train: Images, validation: Images, checkpoint, device):
        self.config, self.train, self.validation = config, train, validation
        self.checkpoint, self.failure = checkpoint, None
        torch.manual_seed(config.seed)
        self.model = BetaVAE(config.latent_dim, train.shape[1:])
        self.model.to(device=device, memory_format=torch.channels_last)
        INITIALISATIONS[config.initialisation](self.model, train, config.seed)
        self.model.log_sigma.fill_(math.log(config.sigma))
        network, sigma = list(self.model.parameters()), []
        if LIKELIHOODS[config.likelihood].learns_sigma:
            sigma = [self.model.log_sigma.requires_grad_()]
        self.parameters = network + sigma
        self.optimiser = torch.optim.AdamW(
            [{"params": network}, {"params": sigma, "weight_decay": 0.0}],  # σ decays to no 1
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=device.type != "mps",
            capturable=device.type == "cuda",
        )
        self.done, self.history = resume(checkpoint, config, self.model, self.optimiser)
        self.learning_rate = torch.tensor(config.learning_rate, device=device)
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate  # a tensor: a graph reads it anew
        self.schedule = Schedule(config, len(train), device)
        size = min(config.batch_size, len(train))
        self.images = torch.zeros((size, *train.shape[1:]), device=device)
        self.noise, self.prior = (
            torch.zeros((size, config.latent_dim), device=device) for _ in range(2)
        )
        self.progress = torch.ones((), device=device)
        self.terms = torch.zeros(3, device=device)  # loss, reconstruction, kl
        self.advance, self.stream = self.step, None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)
            torch.cuda.synchronize(device)
            tf32 = config.precision == "tf32"
            with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
                with on_stream(self.stream):
                    self.rehearse()
                self.advance = captured(self.step, self.stream)

    def run(self, tick, stop):
        """Every step that is left, validated and kept as the configuration says."""
        config = self.config
        started = time.perf_counter() - (self.history[-1]["seconds"] if self.history else 0)
        with on_stream(self.stream):
            # A checkpoint may be the one after which patience had run out.
            while self.done < config.steps and not _out_of_patience(config, self.history):
                first, self.done = (
                    self.done,
                    min(
                        config.steps,
                        (self.done // config.validate_every + 1) * config.validate_every,
                    ),
                )
                log = torch.zeros((self.done - first, 3), device=self.terms.device)
                for step in self.train.batches(self.schedule, range(first, self.done), self.images):
                    if stop.is_set():
                        return
                    draws = self.schedule(step)
                    self.noise.copy_(draws.noise)
                    self.prior.copy_(draws.prior)
                    self.learning_rate.copy_(draws.learning_rate)
                    self.progress.copy_(draws.progress)
                    self.advance()
                    log[step - first].copy_(self.terms)
                    tick()
                try:
                    self.history.append(self._row(first, log.tolist(), started))
                except FloatingPointError as error:
                    self.failure = str(error)
                    return
                save_checkpoint(self.checkpoint, config, self.model, self.optimiser, self.history)
        self.optimiser.zero_grad(set_to_none=True)  # gradients would keep a graph's memory

    def step(self):
        """One step on what the tensors hold; nothing here waits for the device."""
        batch = _terms(
            self.model,
            self.images,
            self.noise,
            self.prior,
            self.progress,
            self.config,
            len(self.train),
        )
        loss = OBJECTIVES[self.config.objective](batch, self.config)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        kl = kl_divergence(batch.mean, batch.logvar).sum(1).mean()
        self.terms.copy_(torch.stack([loss, batch.distortion.mean(), kl]).detach())

    def rehearse(self):
        """A few steps whose traces are wiped out, in place."""
        state = self.optimiser.state
        weights = [p.detach().clone() for p in self.parameters]
        kept = [{k: v.clone() for k, v in state[p].items()} for p in self.parameters]
        for _ in range(WARM_UP):
            self.step()
        with torch.no_grad():
            for parameter, before, old in zip(self.parameters, weights, kept, strict=True):
                parameter.copy_(before)
                for name, value in state[parameter].items():
                    value.copy_(old[name]) if name in old else value.zero_()

    def _row(self, first, log, started):
        for i, terms in enumerate(log):
            named = dict(zip(("loss", "reconstruction", "kl"), terms, strict=True))
            self._stop_if_not_finite(first + i, **named)
        row = {"step": self.done, **named, "progress": self.progress.item()}
        row["sigma"] = self.model.log_sigma.exp().item()
        row |= _validate(self.model, self.validation, self.config, len(self.train))
        self._stop_if_not_finite(self.done - 1, validation=row["validation_loss"])
        return row | {"seconds": time.perf_counter() - started}

    def _stop_if_not_finite(self, step, **terms):
        bad = [name for name, value in terms.items() if not math.isfinite(value)]
        # The loss is bad whenever one of its terms is.
        bad = [name for name in bad if name != "loss" or len(bad) == 1]
        if bad:
            epoch = step // max(len(self.train) // self.config.batch_size, 1)
            raise FloatingPointError(
                f"epoch {epoch}, step {step}: the {' and '.join(bad)} term is not finite; lower "
                "learning_rate, or lengthen lr_warmup"
            )


def elbo_terms(model: BetaVAE, config, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distortion and rate of images under a fitted model.

    Parameters
    ----------
    model : BetaVAE
    config : BetaVAEConfig
        The configuration it was fitted with: its likelihood; its seed draws the samples of z.
    images : ndarray, shape (n, height, width)

    Returns
    -------
    distortion, rate : ndarray of float64, each (n,)
        −log p(x|z) at one sample of z, and KL(q(z|x) ‖ p(z)), nats per image; −ELBO is their sum.
    """
    parts = [
        torch.stack([batch.distortion, kl_divergence(batch.mean, batch.logvar).sum(1)])
        for _, batch in _held_out(model, Images(images, model.device), config, len(images))
    ]
    distortion, rate = torch.cat(parts, dim=1).cpu().double().numpy()
    return distortion, rate


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


def progress_bar(iterable=None, **options):
    """A bar in a terminal, a line now and then in a batch log."""
    if sys.stderr.isatty():
        return tqdm(iterable, dynamic_ncols=True, **options)
    return tqdm(iterable, ncols=110, mininterval=15, maxinterval=60, **options)


def _run_in_threads(fits, tick, stop):
    with ThreadPoolExecutor(len(fits), "fit") as pool:
        running = [pool.submit(fit.run, tick, stop) for fit in fits]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:  # Ctrl-C, or an error in one: the others end at their next step
            if not all(done.done() for done in running):
                stop.set()
    for done in running:
        done.result()


def _terms(model, images, noise, prior, progress, config, n_train) -> Batch:
    """What an objective reads, of one batch."""
    with torch.autocast(
        images.device.type,
        torch.bfloat16,
        enabled=config.precision == "bfloat16",
        cache_enabled=False,  # a cache outlives the capture that filled it
    ):
        mean, logvar = (part.float() for part in model.posterior_parameters(images))
        z = reparameterise(mean, logvar, noise)
        logits = model.logits(z).float()
    distortion = LIKELIHOODS[config.likelihood].negative_log(logits, images, model.log_sigma)
    return Batch(distortion, mean, logvar, z, prior, progress, n_train)


@torch.no_grad()
def _held_out(model, images: Images, config, n_train):
    """Each block of images with its terms at full strength; the same noise every time."""
    generator = torch.Generator().manual_seed(mix(config.seed, 3))
    full = torch.ones((), device=model.device)
    for block in images.blocks():
        shape = (len(block), config.latent_dim)
        noise, prior = (torch.randn(shape, generator=generator).to(model.device) for _ in range(2))
        yield block, _terms(model, block, noise, prior, full, config, n_train)


@torch.no_grad()
def _validate(model, images: Images, config, n_train):
    """The objective, rate and distortion of held-out images, and what the means explain."""
    loss = distortion = rate = residual = 0.0
    means = []
    for block, batch in _held_out(model, images, config, n_train):
        loss += len(block) * OBJECTIVES[config.objective](batch, config)
        distortion += batch.distortion.sum()
        rate += kl_divergence(batch.mean, batch.logvar).sum()
        residual += _sum_of_squares(torch.sigmoid(model.logits(batch.mean)) - block)
        means.append(batch.mean)
    active = torch.cat(means).var(0) > ACTIVE
    return {
        "validation_loss": (loss / len(images)).item(),
        "validation_reconstruction": (distortion / len(images)).item(),
        "validation_kl": (rate / len(images)).item(),
        "explained_variance": 1 - residual.item() / images.sum_of_squares,
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
