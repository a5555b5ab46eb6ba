"""Fitting β-VAEs to arrays: one loop, in the open. Needs torch, numpy, safetensors, tqdm only."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import sys
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from brainvae_core.disk import atomically
from brainvae_core.models.config import Schedule
from brainvae_core.models.devices import (
    Images,
    explain_out_of_memory,
    mix,
    on_device,
    pick_device,
    pick_precision,
    shared_threads,
)
from brainvae_core.models.objectives import sigma_at, terms_of, validate
from brainvae_core.models.optimise import INITIALISATIONS, Optimiser, grow
from brainvae_core.models.vae import CHANNELS_LAST, BetaVAE

WARM_UP = 3  # steps before a capture: kernels are chosen and the optimiser's state is made


class Fitted(NamedTuple):
    """What became of one fit."""

    model: object
    history: list[dict]
    failure: str | None = None  # why it stopped before its end; the model is then of no use
    made: dict = {}  # in what precision, on which device, with which PyTorch


def train_together(configs, train, validation, *, checkpoints=None, device="auto"):
    """Fit several β-VAEs to the same images at once, each to what it would be fitted to alone.

    Every model has a thread of its own (on MPS they take turns), and on CUDA a stream, where a step
    is one graph. Numbers are those of single fits to rounding: a CPU shares out its threads. Fits
    that grow are fitted to block means of the images first; the others wait for these stages.

    Parameters
    ----------
    configs : sequence of BetaVAEConfig
    train, validation : ndarray of float32, shape (n, height, width), or array-like, or Images
        Grey values in [0, 1]; at least two of each. What is in a file is streamed where there is
        no room for it (see `Images`).
    checkpoints : sequence of paths, optional
        One a model, written at every validation; where one exists its fit goes on from it, on a CPU
        to the same weights bit for bit as an uninterrupted fit.
    device : str
        As of `fit`. Where it does not hold so many models, that is an `OutOfDeviceMemory`.

    Returns
    -------
    list of Fitted
        A loss that stops being finite ends its own fit alone and is told in ``failure``. The
        history has a row a validation: ``step`` and ``height`` of the images; ``loss``,
        ``reconstruction`` and ``kl`` of the last training batch (nats per image), ``progress`` of
        the KL warm-up, ``sigma``; ``validation_loss`` (the objective at full strength),
        ``validation_reconstruction`` (distortion D), ``validation_kl`` (rate R; the held-out ELBO
        is −D − R), ``explained_variance``, ``active_latents``, ``seconds``.
        Validation is in float32.
    """
    device = pick_device(device)
    stop, counting = threading.Event(), threading.Lock()
    n, image_shape = len(configs), tuple(train.shape[1:])
    batch_size = max(config.batch_size for config in configs)
    # Eager convolutions in float32 are in float32 too, which is not PyTorch's default.
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with explain_out_of_memory(n, batch_size, image_shape, device), exact:
        images = on_device(train, validation, device)
        if batch_size > len(images[0]):
            raise ValueError(
                f"batch_size={batch_size} is more than the {len(images[0])} training images"
            )
        paths = checkpoints or [None] * n
        fits = [Fit(c, image_shape, p, device) for c, p in zip(configs, paths, strict=True)]
        bar = progress_bar(
            desc=configs[0].label if n == 1 else f"{n} models together",
            initial=sum(fit.done for fit in fits),
            total=sum(config.n_steps for config in configs),
        )

        def tick():
            with counting:
                bar.update()

        with bar, shared_threads(n):
            for shape in sorted({stage.shape for fit in fits for stage in fit.stages}):
                at_this_size = [fit for fit in fits if fit.has_steps_at(shape)]
                parts = [part.at(shape) for part in images] if at_this_size else []
                for fit in at_this_size:
                    fit.enter(shape, *parts)
                _run_all(at_this_size, tick, stop)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return [Fitted(fit.model, fit.history, fit.failure, fit.made) for fit in fits]


class Fit:
    """One model being fitted, and what its next step reads, in tensors that stay where they are."""

    def __init__(self, config, image_shape, checkpoint, device):
        self.config, self.checkpoint, self.device = config, checkpoint, device
        self.stages = config.stages(image_shape)
        self.kept = read_checkpoint(checkpoint, config)
        here = {"device": device.type, "torch": torch.__version__}
        kept = self.kept or {"history": [], "made": here}
        self.history, self.made = kept["history"], kept["made"]
        self.done = self.history[-1]["step"] if self.history else 0
        begun = self.made.get("precision")
        self.made["precision"] = pick_precision(config.precision, device, begun)
        if begun not in (None, self.made["precision"]):
            self.made["begun_in"] = begun
        self.model, self.failure = None, None

    def has_steps_at(self, shape) -> bool:
        """Whether a stage has that size and is not passed; one that is just done is grown from."""
        return self.failure is None and any(
            stage.shape == shape and self.done <= stage.last for stage in self.stages
        )

    def enter(self, shape, train: Images, validation: Images):
        """Make ready for the stage of a size: a new, a grown or a kept model, and what it needs."""
        config, device = self.config, self.device
        self.stage = next(stage for stage in self.stages if stage.shape == shape)
        self.train, self.validation = train, validation
        self.schedule = Schedule(config, self.stage, len(train), device)
        is_new = self.model is None
        if is_new:
            torch.manual_seed(config.seed)
            self.model = BetaVAE(config.latent_dim, shape).to(device)
        else:
            self.model = grow(self.model, train, mix(config.seed, 4, *shape))
        self.model.log_sigma.fill_(math.log(sigma_at(config.likelihood, shape)))
        if is_new and self.kept:
            self.model.load_state_dict(self.kept["model"])
        elif is_new:
            INITIALISATIONS[config.initialisation](self.model, train, config.seed)
        self.model.to(memory_format=CHANNELS_LAST)
        self.working = self.model
        if self.made["precision"] == "bfloat16":
            self.working = copy.deepcopy(self.model)
            for part in (self.working.encoder, self.working.decoder):
                part.to(torch.bfloat16)
        self.optimiser = Optimiser(self.model, self.working, config)
        if self.kept:
            _write(self.optimiser.state(), self.kept["optimiser"])
            self.kept = None
        self.images = torch.zeros((config.batch_size, *shape), device=device)
        self.noise = torch.zeros((config.batch_size, config.latent_dim), device=device)
        self.progress = torch.ones((), device=device)
        self.terms = torch.zeros(3, device=device)  # loss, reconstruction, kl
        self.replay, self.stream = None, None  # of a CUDA graph of a step
        if device.type == "cuda" and self.done < self.stage.last:
            self.stream = torch.cuda.Stream(device)
            torch.cuda.synchronize(device)
            with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
                with torch.cuda.stream(self.stream):
                    self.rehearse()
                self.replay = captured(self.step, self.stream)

    def run(self, tick, stop):
        """Every step of the stage that is left, validated and kept as the configuration says."""
        every, last = self.config.validate_every, self.stage.last
        started = time.perf_counter() - (self.history[-1]["seconds"] if self.history else 0)
        # A fit that held its own method would live, and its images, until Python looks for cycles.
        advance = self.replay or self.step
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            while self.done < last:
                first, self.done = self.done, min(last, (self.done // every + 1) * every)
                log = torch.zeros((self.done - first, 3), device=self.device)
                for step in self.train.batches(self.schedule, range(first, self.done), self.images):
                    if stop.is_set():
                        return
                    _, noise, rate, progress = self.schedule(step)
                    self.noise.copy_(noise)
                    self.optimiser.factor.copy_(rate)
                    self.progress.copy_(progress)
                    advance()
                    log[step - first].copy_(self.terms)
                    tick()
                try:
                    self.history.append(self._row(first, log.tolist(), started))
                except FloatingPointError as error:  # it ends this fit alone
                    self.failure = str(error)
                    return
                if self.checkpoint:
                    states = {"model": self.model.state_dict(), "optimiser": self.optimiser.state()}
                    about = {"config": asdict(self.config), "made": self.made}
                    save_checkpoint(self.checkpoint, states, history=self.history, **about)
        self.optimiser.forget_gradients()  # they would keep a graph's memory

    def step(self):
        """One step on what the tensors hold; nothing here waits for the device."""
        terms = terms_of(self.working, self.images, self.noise, self.config.likelihood)
        loss = terms.loss(self.config.beta, self.progress)
        self.optimiser.forget_gradients()
        loss.backward()
        self.optimiser.step()
        parts = [loss, terms.distortion.mean(), terms.kl.sum(1).mean()]
        self.terms.copy_(torch.stack(parts).detach())

    def rehearse(self):
        """A few steps whose traces are wiped out, in place."""
        states = self.model.state_dict(), self.optimiser.state()
        before = [{name: value.clone() for name, value in state.items()} for state in states]
        for _ in range(WARM_UP):
            self.step()
        for state, kept in zip(states, before, strict=True):
            _write(state, kept)
        self.optimiser.bring_up_to_date()

    def _row(self, first, log, started):
        for i, terms in enumerate(log):
            named = dict(zip(("loss", "reconstruction", "kl"), terms, strict=True))
            self._stop_if_not_finite(first + i, **named)
        row = {"step": self.done, "height": self.stage.shape[0], **named}
        row |= {"progress": self.progress.item(), "sigma": self.model.log_sigma.exp().item()}
        row |= validate(self.model, self.validation, self.config)
        self._stop_if_not_finite(self.done - 1, validation=row["validation_loss"])
        return row | {"seconds": time.perf_counter() - started}

    def _stop_if_not_finite(self, step, **terms):
        bad = [name for name, value in terms.items() if not math.isfinite(value)]
        # The loss is bad whenever one of its terms is.
        bad = [name for name in bad if name != "loss" or len(bad) == 1]
        if bad:
            epoch = step // max(len(self.train) // self.config.batch_size, 1)
            also = " and muon_rate" if self.config.optimiser == "muon" else ""
            raise FloatingPointError(
                f"epoch {epoch}, step {step}: the {' and '.join(bad)} term is not finite; lower "
                f"learning_rate{also}, or lengthen lr_warmup"
            )


def captured(step, stream):
    """A step that was run before, as one CUDA graph: its ~120 kernels cost one launch."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize(stream.device)
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph.replay


def progress_bar(**options):
    """A bar in a terminal, a line now and then in a batch log."""
    in_log = {"ncols": 110, "mininterval": 15, "maxinterval": 60}
    return tqdm(**({"dynamic_ncols": True} if sys.stderr.isatty() else in_log), **options)


@torch.no_grad()
def _write(state, values):
    """Copy values into the tensors of a state, by name."""
    for name, tensor in state.items():
        tensor.copy_(values[name])


def _run_all(fits, tick, stop):
    """Run fits to the end of their stages, at once where there are several."""
    if len(fits) < 2 or fits[0].device.type == "mps":  # which has one queue
        for fit in fits:
            fit.run(tick, stop)
        return
    with ThreadPoolExecutor(len(fits), "fit") as pool:
        running = [pool.submit(fit.run, tick, stop) for fit in fits]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:  # Ctrl-C, or an error in one: the others end at their next step
            if not all(done.done() for done in running):
                stop.set()
    for done in running:
        done.result()


# ---- an unfinished fit on disk: one safetensors file that is whole or not there ----


def save_checkpoint(path, states: dict[str, dict[str, torch.Tensor]], **described) -> None:
    """Write the states of model and optimiser, and what JSON can describe of their fit."""
    tensors = {f"{part}.{name}": t for part, state in states.items() for name, t in state.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = {name: json.dumps(value) for name, value in described.items()}
    with atomically(path) as beside:
        try:
            save_file(tensors, beside, described | {"sha256": _digest(tensors, described)})
        except SafetensorError as error:  # of a full disk, which is no OSError
            raise OSError(f"{path} cannot be written ({error}); make room") from None


def read_checkpoint(path, config) -> dict | None:
    """A checkpoint where there is one; ValueError where it is damaged or of another config."""
    if path is None or not Path(path).exists():
        return None
    damaged, anew = f"checkpoint {path} is damaged", "delete it to start anew"
    try:
        with safe_open(path, "pt") as file:
            described = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{damaged} ({error}); {anew}") from error
    if described.pop("sha256", None) != _digest(tensors, described):
        raise ValueError(f"{damaged} (checksum); {anew}")
    described = {name: json.loads(text) for name, text in described.items()}
    theirs, ours = described["config"], json.loads(json.dumps(asdict(config)))
    other = sorted(name for name in theirs | ours if theirs.get(name) != ours.get(name))
    if other:
        raise ValueError(f"checkpoint {path} was made with another {', '.join(other)}; {anew}")
    for part in ("model", "optimiser"):
        of_part = [name for name in tensors if name.startswith(f"{part}.")]
        described[part] = {name.removeprefix(f"{part}."): tensors[name] for name in of_part}
    return described


def _digest(tensors: dict[str, torch.Tensor], described: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
