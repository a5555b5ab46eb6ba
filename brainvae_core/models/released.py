"""The model that the paper's authors released, as one of ours: read and converted, never fitted.

Their network (github.com/nerdslab/brainsynth) sees sections lying on their side, left to right down
the rows. Transposed kernels and the pixels before and after the fully connected layers in our order
make it the same function of sections as they stand.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from brainvae_core.disk import sha256_of
from brainvae_core.models.config import PAPER, BetaVAEConfig
from brainvae_core.models.objectives import sigma_at
from brainvae_core.models.vae import CHANNELS, COARSEST, STRIDED, BetaVAE

BETA = 3.0  # the paper's, and the default of their notebook; no file says it
BUFFERS = ("input_mean", "input_scale", "output_offset", "log_sigma")  # theirs has none


@dataclass(frozen=True)
class ReleasedConfig(BetaVAEConfig):
    """What is known of the fit of a released checkpoint; as a `BetaVAEConfig`, but never fitted.

    ``steps`` are the iterations at which it was taken, ``checkpoint_sha256`` is that of its file.
    """

    checkpoint_sha256: str = ""

    kind = "released_vae"

    @property
    def label(self) -> str:
        """The beginning of the run's name."""
        return f"released_vae-L{self.latent_dim}-beta{self.beta:g}"

    told = "the authors' own β-VAE"

    @staticmethod
    def fit_together(*_, **__):
        """Refuse: where the run of a cohort is missing, nothing may take its place."""
        raise ValueError(
            "the authors' model is read, never fitted, and there is no run of it on this cohort: "
            "leave shape as `make authors` left the sections, or run `make authors` again"
        )


class Released(NamedTuple):
    """A released model, with what its file says of it."""

    model: BetaVAE
    config: ReleasedConfig


def read_released(path: str | Path) -> Released:
    """The model in a checkpoint as the authors' code writes it.

    Parameters
    ----------
    path : path
        A file of ``torch.save``, zip or legacy, with the weights under ``model_states``, ``net``.
        It is read with ``weights_only=True``: no code in it is run.

    Raises
    ------
    ValueError
        In one line: no such file, not readable so, or of another network.
    """
    path = Path(path)
    content = _content(path)
    try:
        weights = dict(content["model_states"]["net"])
    except (KeyError, TypeError, ValueError, IndexError):
        there = (
            ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        )
        raise ValueError(
            f"{path} has no weights under ['model_states']['net'], where the authors' code puts "
            f"them; it has {there}"
        ) from None
    weights = {str(name).removeprefix("module."): w for name, w in weights.items()}
    model = _converted(weights, path)
    steps = content.get("iter")
    is_count = isinstance(steps, int) and not isinstance(steps, bool) and steps > 0
    config = ReleasedConfig(
        **PAPER
        | {"steps": steps if is_count else PAPER["steps"]}
        | {"latent_dim": model.latent_dim, "beta": BETA},
        checkpoint_sha256=sha256_of(path),
    )
    model.log_sigma.fill_(math.log(sigma_at(config.likelihood, model.image_shape)))
    return Released(model, config)


def _content(path):
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    with path.open("rb") as file:
        start = file.read(12)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zip or torch, which say it in many lines
        said = str(error).strip() or type(error).__name__
        if start[:6] == b"\x93NUMPY":
            said = "it is a NumPy array"
        elif start[:1] not in (b"P", b"\x80"):  # of a zip, of a pickle
            said = f"it begins with {start!r}"
        elif found := re.search(r"Unsupported \w+:? [\w.]+( [\w.]+)?", said):
            said = found[0]  # and not torch's advice to read it otherwise
        said = said.partition("\n")[0][:150]
        raise ValueError(
            f"{path} is no checkpoint that can be read as weights alone ({said}); it must be a "
            "whole file of torch.save with tensors, numbers and text only"
        ) from None


def _converted(theirs, path) -> BetaVAE:
    """Our network with their weights."""
    model = _of_size(theirs, path)
    ours = {n: w for n, w in model.state_dict().items() if n not in BUFFERS}
    for name in [*ours, *theirs]:
        found, wanted = (tuple(of[name].shape) if name in of else None for of in (theirs, ours))
        if found != wanted:
            raise _another(path, f"{name} is {found or 'missing'} and {wanted or 'not there'}")
        if not (theirs[name].is_floating_point() and theirs[name].isfinite().all()):
            raise ValueError(f"{name} of {path} holds what is no finite number")
    turned = {n: w.float().mT if w.ndim == 4 else w.float() for n, w in theirs.items()}
    linear = [n for n, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    first, last = linear[0], linear[-1]  # the encoder's first, the decoder's last
    height, width = (side - 1 for side in COARSEST)
    onto = turned[f"{first}.weight"].unflatten(1, (CHANNELS, width, height))
    turned[f"{first}.weight"] = onto.mT.flatten(1)
    for name in (f"{last}.weight", f"{last}.bias"):
        out = turned[name].unflatten(0, (CHANNELS, width, height))
        turned[name] = out.transpose(1, 2).flatten(0, 2)
    model.load_state_dict(turned, strict=False)
    return model


def _of_size(theirs, path) -> BetaVAE:
    """Our network with as many convolutions and latents as theirs."""
    tensors = {name: w for name, w in theirs.items() if isinstance(w, torch.Tensor)}
    if len(tensors) < len(theirs) or "decoder.0.weight" not in tensors:
        raise _another(path, f"it has {', '.join(list(theirs)[:4]) or 'no layer'}")
    kernels = [n for n, w in tensors.items() if n.startswith("encoder.") and w.ndim == 4]
    k, into = len(kernels) - 1, tensors["decoder.0.weight"]
    if not 1 <= k <= STRIDED or into.ndim != 2 or into.shape[1] < 1:
        found = f"{len(kernels)} convolutions and decoder.0.weight {tuple(into.shape)}"
        raise _another(path, f"{found} are there, 2 to {STRIDED + 1} and (256, L)")
    return BetaVAE(into.shape[1], tuple(side * 2**k for side in COARSEST))


def _another(path, what) -> ValueError:
    return ValueError(f"{path} is a checkpoint of another network than the authors': {what} there")
