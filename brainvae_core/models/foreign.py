"""Other makers' models, and the one that the paper's authors released.

The analysis goes in steps of standard deviations: given ``images``, codes of a wrapped model are
divided by theirs and not centred. A model that answers wrongly is refused when it is wrapped.

The authors' network (github.com/nerdslab/brainsynth) sees sections lying on their side, left to
right down the rows. Transposed kernels and the pixels before and after the fully connected layers
in our order make it the same function of sections as they stand.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from brainvae_core.disk import sha256_of
from brainvae_core.models.config import PAPER, BetaVAEConfig
from brainvae_core.models.devices import batches, checked_codes, checked_images
from brainvae_core.models.objectives import sigma_at
from brainvae_core.models.vae import CHANNELS, COARSEST, STRIDED, BetaVAE

BETA = 3.0  # the paper's, and the default of their notebook; no file says it
BUFFERS = ("input_mean", "input_scale", "output_offset", "log_sigma")  # theirs has none


class _Foreign:
    def __init__(self, image_shape, images):
        self.image_shape, self.latent_dim, self.scale = tuple(image_shape), None, np.float32(1)
        self.latent_dim = self.encode(np.full((2, *self.image_shape), 0.5)).shape[1]
        self.decode(np.zeros((2, self.latent_dim)))
        if images is not None:
            if len(images) < 2:
                raise ValueError(f"{len(images)} images have no standard deviation; give 2 or more")
            codes = self.encode(images).astype(np.float64)
            spread, rounding = codes.std(axis=0, ddof=1), 1e-6 * np.abs(codes).max(axis=0)
            self.scale = np.where(spread > rounding, spread, 1).astype(np.float32)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Codes of images (n, height, width), (n, latent_dim) float32."""
        return self._codes(images)[0]

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Images of codes (n, latent_dim), (n, height, width) float32, not clipped to [0, 1]."""
        z, shape = checked_codes(z, self.latent_dim) * self.scale, self.image_shape
        parts = [_checked("decoder", self._decoded(b), (len(b), *shape)) for b in batches(z, "cpu")]
        return np.concatenate(parts)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """``decode(encode(images))``."""
        return self.decode(self.encode(images))

    def _codes(self, images):  # means, and standard deviations of a model that answers them
        parts = [
            [_checked("encoder", a, (len(b), self.latent_dim)) for a in self._encoded(b)]
            for b in batches(checked_images(images, self.image_shape), "cpu")
        ]
        return tuple(np.concatenate(part) / self.scale for part in zip(*parts, strict=True))


class FromSklearn(_Foreign):
    """A fitted estimator or Pipeline with ``transform`` and ``inverse_transform``.

    It is of flat images (n, height · width). ``images`` (n, height, width) are brains over which
    codes get unit variance; without them codes are the model's own.
    """

    def __init__(self, estimator, image_shape, *, images=None):
        for name, step in getattr(estimator, "steps", [(type(estimator).__name__, estimator)]):
            if step not in (None, "passthrough") and not hasattr(step, "inverse_transform"):
                raise ValueError(f"{name} has no inverse_transform; PCA, FastICA and NMF have one")
        self.estimator = estimator
        super().__init__(image_shape, images)

    def _encoded(self, images):
        return [self.estimator.transform(images.flatten(1).numpy().copy())]  # some work in place

    def _decoded(self, z):
        flat, n_pixels = self.estimator.inverse_transform(z.numpy()), np.prod(self.image_shape)
        return _checked("decoder", flat, (len(z), n_pixels)).reshape(-1, *self.image_shape)


class FromTorch(_Foreign):
    """Modules or methods of one, asked where they are, in eval mode and without gradients.

    Or functions of float32.

    Parameters
    ----------
    encoder : callable
        Tensor (n, 1, height, width) to (n, latent_dim), or to a pair of these, mean and
        log-variance: then there is ``posterior(images) -> mean, std``, which the analysis uses.
    decoder : callable
        Tensor (n, latent_dim) to (n, 1, height, width) or (n, height, width).
    image_shape, images
        As for `FromSklearn`. No images for a VAE: its codes are in its prior's standard deviations,
        and a latent that says nothing would become loud.
    """

    def __init__(self, encoder, decoder, image_shape, *, images=None):
        self.encoder, self.decoder = encoder, decoder
        super().__init__(image_shape, images)
        if len(self._codes(np.zeros((1, *self.image_shape)))) == 2:
            self.posterior = self._codes

    def _encoded(self, images):
        answer = self._call(self.encoder, images[:, None])
        is_pair = isinstance(answer, tuple | list) and len(answer) == 2
        return [answer[0], (answer[1].float() / 2).exp()] if is_pair else [answer]

    def _decoded(self, z):
        answer = self._call(self.decoder, z)
        return answer.squeeze(1) if getattr(answer, "ndim", 0) == 4 else answer

    @torch.no_grad()
    def _call(self, function, tensor):
        module = getattr(function, "__self__", function)  # of a method its module
        if not isinstance(module, torch.nn.Module):
            return function(tensor.clone())
        like = next(filter(torch.is_floating_point, module.parameters()), tensor)
        modes = [(part, part.training) for part in module.modules()]
        module.eval()
        try:
            return function(tensor.to(like, copy=True))
        finally:
            for part, training in modes:
                part.training = training


def _checked(who, answer, wanted):
    """An answer as float32, or a ValueError where its shape is another; None is any number."""
    shape = tuple(getattr(answer, "shape", ()))
    if len(shape) != len(wanted) or any(w not in (shape[i], None) for i, w in enumerate(wanted)):
        what, allowed = type(answer).__name__, ", ".join(str(w or "latent_dim") for w in wanted)
        raise ValueError(f"the {who} answered a {what} {shape}; it must answer ({allowed})")
    return np.asarray(answer.float().cpu() if torch.is_tensor(answer) else answer, np.float32)


# ---- the authors' checkpoint ----


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

    title = "the authors' own β-VAE"

    @staticmethod
    def fit_together(*_, **__):
        """Refuse: where the run of a cohort is missing, nothing may take its place."""
        raise ValueError(
            "the authors' model is read, never fitted, and there is no run of it on this cohort: "
            "leave shape as `make authors` left the sections, or run `make authors` again"
        )


def read_released(path: str | Path) -> tuple[BetaVAE, ReleasedConfig]:
    """The model in a checkpoint as the authors' code writes it, and what is known of its fit.

    It is a file of ``torch.save``, zip or legacy, with the weights under ``model_states``, ``net``,
    and is read with ``weights_only=True``: no code in it is run. Anything else is a ValueError.
    """
    path = Path(path)
    content = _content(path)
    try:
        weights = dict(content["model_states"]["net"])
    except (KeyError, TypeError, ValueError, IndexError):
        raise ValueError(
            f"{path} has no weights under ['model_states']['net'], where the authors have them"
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
    return model, config


def _content(path):
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    try:
        if zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip():  # which torch does not
            raise ValueError("a part of it is not what was saved")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # of pickle, zip or torch, whose advice is to read it otherwise
        raise ValueError(
            f"{path} is no checkpoint that can be read as weights alone; it must be a whole file "
            "of torch.save with tensors, numbers and text only"
        ) from None


def _converted(theirs, path) -> BetaVAE:
    """Our network with their weights."""
    model = _of_size(theirs, path)
    ours = {n: w for n, w in model.state_dict().items() if n not in BUFFERS}
    for name in [*ours, *theirs]:
        found, wanted = (tuple(of[name].shape) if name in of else None for of in (theirs, ours))
        if found != wanted:
            raise _another(path, f"{name} is {found or 'missing'}, theirs {wanted or 'has none'}")
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
        raise _another(path, f"it has {found}, theirs 2 to {STRIDED + 1} and (256, L)")
    return BetaVAE(into.shape[1], tuple(side * 2**k for side in COARSEST))


def _another(path, what) -> ValueError:
    return ValueError(f"{path} is a checkpoint of another network than the authors': {what}")
