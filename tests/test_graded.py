"""Artefacts of every kind and strength: shares in their cells."""

from types import SimpleNamespace

import numpy as np
import pytest
from refusals import refused
from toys import Answers

from brainvae_core.metrics import artefact_removal, graded_removal

KINDS, STRENGTHS, N, SHAPE = ("leak", "grid"), (0.3, 0.6, 1.0), 4, (5, 7)
MEAN = np.full(SHAPE, 0.5)


@pytest.fixture
def graded():
    rng = np.random.default_rng(0)
    clean = rng.random((N, *SHAPE))
    masks = np.zeros((2, 3, N, *SHAPE), bool)
    masks[0, :, :, 1:3, 2:5] = masks[1, :, :, 3:, 1:] = True
    strengths = rng.random(masks.shape) * np.array(STRENGTHS)[:, None, None, None]
    images = clean + masks * strengths * (1 - clean)
    found = {"kinds": KINDS, "strengths": STRENGTHS, "clean": clean, "images": images}
    return SimpleNamespace(**found, masks=masks, pixel_um=50)


class Halves:
    """Half way to the mean image."""

    def reconstruct(self, images):
        return (images + MEAN) / 2


class InPlace:
    """The same through a code, and careless with what it is given."""

    def encode(self, images):
        images += MEAN
        return images.reshape(len(images), -1)

    def decode(self, z):
        return z.reshape(-1, *SHAPE) / 2


@pytest.mark.parametrize("model", [Halves(), InPlace()])
def test_every_cell_is_that_artefacts_own_removal(graded, model):
    before = graded.images.copy()
    found = graded_removal(model, graded, MEAN)
    np.testing.assert_array_equal(graded.images, before)
    np.testing.assert_allclose(found.reproduced, np.full((2, 3, N), 0.5))
    np.testing.assert_allclose(found.kept, np.full((2, 3, N), 0.75))
    for k, s in np.ndindex(2, 3):
        dirty = graded.images[k, s]
        answers = Halves().reconstruct(graded.clean), Halves().reconstruct(dirty)
        alone = artefact_removal(graded.clean, dirty, graded.masks[k, s], *answers, MEAN, 50)
        np.testing.assert_allclose(found.recovered[k, s], alone.recovered)
        np.testing.assert_allclose(found.pattern[k, s], alone.pattern)


def test_patterns_are_of_the_kinds_that_are_asked(graded):
    found, some = (graded_removal(Halves(), graded, MEAN, of) for of in (None, ["grid"]))
    np.testing.assert_array_equal(some.pattern[1], found.pattern[1])
    assert np.isnan(some.pattern[0]).all()
    np.testing.assert_array_equal(some.reproduced, found.reproduced)


def test_what_a_model_answers_is_checked(graded):
    flat = Answers(encode=lambda images: images, decode=lambda images: images[:, None])
    said = r"the model's reconstructions are \(4, 1, 5, 7\); of"
    refused([(said, graded_removal, flat, graded, MEAN)])
