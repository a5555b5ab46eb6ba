"""What this project did not make: other makers' models, as the analysis asks them.

A ValueError refuses a model that answers wrongly as soon as it is wrapped. The analysis goes in
steps of standard deviations: given ``images``, codes are divided by theirs and not centred.
"""

from __future__ import annotations

import numpy as np
import torch

from brainvae_core.models.devices import batches, checked_codes, checked_images, pick_device


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
    """Modules or methods of one, asked in eval mode without gradients; or functions of float32.

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
    device : str, optional
        Where modules are moved, as in `fit`; without it each is asked where it is.
    """

    def __init__(self, encoder, decoder, image_shape, *, images=None, device=None):
        self.encoder, self.decoder, self.device = encoder, decoder, device and pick_device(device)
        super().__init__(image_shape, images)
        if len(self._codes(np.zeros((1, *self.image_shape)))) == 2:
            self.posterior = self._codes

    def _encoded(self, images):
        answer = self._asked(self.encoder, images[:, None])
        is_pair = isinstance(answer, tuple | list) and len(answer) == 2
        return [answer[0], (answer[1].float() / 2).exp()] if is_pair else [answer]

    def _decoded(self, z):
        answer = self._asked(self.decoder, z)
        return answer.squeeze(1) if getattr(answer, "ndim", 0) == 4 else answer

    @torch.no_grad()
    def _asked(self, function, tensor):
        module = getattr(function, "__self__", function)  # of a method its module
        if not isinstance(module, torch.nn.Module):
            return function(tensor.to(self.device, copy=True))
        like = next(filter(torch.is_floating_point, module.to(self.device).parameters()), tensor)
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
