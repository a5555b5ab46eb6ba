"""Images small enough to fit a model to in a second, and as much of a cohort as a fit may read."""

from types import SimpleNamespace

import numpy as np

from brainvae_core.models import train_together


def sections(n, seed=0, shape=(20, 28)):
    """Images whose two halves and overall grey vary from brain to brain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    brain = np.exp(-2 * (x**2 + y**2))
    maps = 0.15 * brain * np.stack([x, y, np.ones(shape)])
    images = 0.6 * brain + np.einsum("nk,khw->nhw", rng.normal(size=(n, 3)), maps)
    return np.clip(images + rng.normal(0, 0.01, (n, *shape)), 0, 1).astype(np.float32)


class Brains:
    """A cohort of given parts whose test brains no fit may read."""

    name, fingerprint = "brains", "0123456789abcdef"

    def __init__(self, train, validation):
        self.parts = {"train": train, "validation": validation}

    def split(self, name):
        if name == "test":
            raise AssertionError("a fit read the test brains")
        return SimpleNamespace(images=self.parts[name])


def fit_alone(config, train, validation, checkpoint=None, device="cpu"):
    """What became of one fit to arrays."""
    fit_together = getattr(config, "fit_together", train_together)
    (found,) = fit_together([config], train, validation, checkpoints=[checkpoint], device=device)
    return found


def assert_same(one, other):
    """Two fits have the same history, but for its times, and the same bits."""
    assert [r | {"seconds": 0} for r in one.history] == [r | {"seconds": 0} for r in other.history]
    for name, value in one.model.tensors().items():
        assert np.array_equal(value, other.model.tensors()[name]), name
