"""What every metric says of a perfect answer, of a worthless one, and of nothing.

A metric is two or three rows of the table; what it says in between is its own file's.
"""

import numpy as np
import pytest
from pytest import approx
from refusals import refused

from brainvae_core.metrics import (
    CWSSIM,
    ErrorMap,
    aggregate_codes,
    artefact_removal,
    auc,
    clustering,
    cw_ssim,
    explained_variance,
    explained_variance_per_brain,
    frechet_distance,
    generated_scores,
    linear_recovery,
    match_latents,
    norm_ratio,
    pca_basis,
    pca_frechet_distance,
    pixel_detection,
    reproduced_change,
    sidedness_beyond_chance,
)

RNG = np.random.default_rng(0)
SHAPE = (24, 31)
IMAGES, OTHERS = RNG.random((2, 6, *SHAPE)).astype(np.float32)
MEAN = RNG.random((40, *SHAPE)).mean(axis=0)
MEANS = np.broadcast_to(MEAN, IMAGES.shape)
MASKS = np.zeros(IMAGES.shape, dtype=bool)
MASKS[:, 5:15, 4:20] = True
DIRTY = np.where(MASKS, IMAGES + (0.3 + 0.2 * OTHERS) * (1 - IMAGES), IMAGES)
CODES, NOISE = RNG.standard_normal((2, 300, 3))
UNUSUAL = np.arange(300) < 40
DEAD, FAR = np.ones_like(CODES), CODES + 100
ONE_SIDED = np.where(UNUSUAL[:, None], 9, CODES)
LATTICE = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), axis=-1).reshape(-1, 3)


def removal(of_clean, of_dirty, what):
    found = artefact_removal(IMAGES, DIRTY, MASKS, of_clean, of_dirty, MEAN, 50)
    return getattr(found, what)


def recovery(codes):
    return linear_recovery(codes[:200], CODES[:200], codes[200:], CODES[200:])


def level_2(images):
    return cw_ssim(IMAGES, images, level=2)


PERFECT = {
    "explained variance": (lambda: explained_variance(IMAGES, IMAGES, MEAN), 1),
    "explained variance a brain": (lambda: explained_variance_per_brain(IMAGES, IMAGES, MEAN), 1),
    "norm ratio": (lambda: norm_ratio(IMAGES, IMAGES, MEAN), 1),
    "CW-SSIM": (lambda: level_2(IMAGES), 1),
    "Fréchet distance": (lambda: frechet_distance(CODES, CODES[::-1]), 0),
    "reproduced": (lambda: removal(IMAGES, IMAGES, "reproduced"), 0),
    "pattern": (lambda: removal(IMAGES, IMAGES, "pattern"), 0),
    "kept": (lambda: removal(IMAGES, IMAGES, "kept"), 1),
    "recovered": (lambda: removal(IMAGES, IMAGES, "recovered"), 1),
    "reproduced change": (lambda: reproduced_change(IMAGES, DIRTY, IMAGES, DIRTY), 1),
    "area under the curve": (lambda: auc(np.zeros(4), np.ones(3)), 1),
    "outline": (lambda: pixel_detection(DIRTY - IMAGES, MASKS), 1),
    "linear recovery": (lambda: recovery(CODES @ np.triu(np.ones((3, 3)))), 1),
    "matching": (lambda: match_latents(CODES, -CODES[:, ::-1])[2], 1),
    "clustering": (lambda: clustering(CODES), approx(1, abs=0.08)),
    "one side": (lambda: sidedness_beyond_chance(ONE_SIDED, UNUSUAL), approx(0.87, abs=0.01)),
}
WORTHLESS = {
    "explained variance": (lambda: explained_variance(IMAGES, MEANS, MEAN), 0),
    "explained variance a brain": (lambda: explained_variance_per_brain(IMAGES, MEANS, MEAN), 0),
    "norm ratio": (lambda: norm_ratio(IMAGES, MEANS, MEAN), 0),
    "CW-SSIM": (lambda: level_2(OTHERS), approx(0.3, abs=0.2)),
    "Fréchet distance": (lambda: frechet_distance(CODES, FAR), 3e4),
    "reproduced": (lambda: removal(IMAGES, DIRTY, "reproduced"), 1),
    "pattern": (lambda: removal(IMAGES, DIRTY, "pattern"), 1),
    "kept": (lambda: removal(MEANS, MEANS, "kept"), 0),
    "recovered": (lambda: removal(MEANS, MEANS, "recovered"), 0),
    "reproduced change": (lambda: reproduced_change(IMAGES, DIRTY, MEANS, MEANS), 0),
    "area under the curve": (lambda: auc(np.zeros(4), np.zeros(3)), 0.5),
    "area of the reverse": (lambda: auc(np.ones(4), np.zeros(3)), 0),
    "outline": (lambda: pixel_detection(IMAGES - DIRTY, MASKS), 0),
    "linear recovery": (lambda: recovery(NOISE), approx(0, abs=0.1)),
    "matching": (lambda: match_latents(CODES, NOISE)[2], approx(0, abs=0.2)),
    "clustering": (lambda: clustering(LATTICE) > 1.3, 1),
    "one side": (lambda: sidedness_beyond_chance(CODES, UNUSUAL), approx(0, abs=0.5)),
}
DEGENERATE = {
    "Fréchet distance of equal points": (lambda: frechet_distance(DEAD, 2 * DEAD), 3),
    "recovery from dead latents": (lambda: recovery(DEAD), approx(0, abs=0.2)),
    "matching of dead latents": (lambda: match_latents(CODES, DEAD)[2], 0),
    "no brain in a tail": (lambda: sidedness_beyond_chance(CODES * ~UNUSUAL[:, None], UNUSUAL), 0),
    "one brain, one fit": (lambda: explained_variance(IMAGES[:1], IMAGES[:1], MEAN), 1),
}


@pytest.mark.promise("a perfect and a worthless answer score what they should")
@pytest.mark.parametrize(
    ("metric", "wanted"),
    [*PERFECT.values(), *WORTHLESS.values(), *DEGENERATE.values()],
    ids=[*PERFECT, *WORTHLESS, *DEGENERATE],
)
def test_what_a_metric_says_of_it(metric, wanted):
    found = np.asarray(metric(), dtype=np.float64)
    if isinstance(wanted, int | float):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    else:
        near = np.asarray(wanted.expected, dtype=np.float64)
        np.testing.assert_allclose(found, np.broadcast_to(near, found.shape), atol=wanted.abs)


# ---- greys of another unit ----

OTHER_UNITS = {
    "0 to 255": (lambda x: 255 * x, "0.* to 25.*"),
    "8 bits": (lambda x: (255 * x).astype(np.uint8), "0 to 25."),
    "dark whole numbers": (lambda x: np.rint(2 * x), "0 to 2"),
    "16 bits": (lambda x: (65535 * x).astype(np.uint16), "12 to 65506"),
    "-1 to 1": (lambda x: 2 * np.minimum(x, 0.6) - 1, "-0.99962 to 0.2"),
    "standard deviations": (lambda x: (x - x.mean()) / (0.4 * x.std()), "-4.* to 4.*"),
    "one brain of the set": (lambda x: x * np.r_[np.ones(5), 255][:, None, None], "0.* to 25.*"),
}


@pytest.mark.promise("greys of another unit are refused")
@pytest.mark.parametrize(("turned", "told"), OTHER_UNITS.values(), ids=OTHER_UNITS)
def test_greys_of_another_unit_are_refused_with_their_range(turned, told):
    other, words = turned(IMAGES), f"has values from {told}; greys from 0 to 1 are taken"
    cases = [
        (f"^{name} {words}", metric, *images, *rest)
        for metric, rest in (
            (cw_ssim, (2,)),
            (explained_variance, (MEAN,)),
            (explained_variance_per_brain, (MEAN,)),
            (norm_ratio, (MEAN,)),
        )
        for name, images in (
            ("(reference|images)", (other, IMAGES)),
            ("(images|reconstructions)", (IMAGES, other)),
        )
    ]
    cases += [
        ("^the mean image has values from 8", explained_variance, IMAGES, IMAGES, 255 * MEAN),
        (words, reproduced_change, IMAGES, other, IMAGES, IMAGES),
        (words, artefact_removal, IMAGES, DIRTY, MASKS, IMAGES, other, MEAN, 50),
        (words, pca_basis, other, 2),
        (words, pca_basis(IMAGES, 2).project, other),
    ]
    refused(cases)


@pytest.mark.parametrize("turn", [lambda x: 2 * x, lambda x: x - 0.01, lambda x: x + 0.01])
def test_brains_that_leave_the_greys_are_refused_and_answers_are_scored(turn):
    """A model answers a little below 0 and above 1; what it is given and held against does not."""
    edges = np.concatenate([0 * IMAGES[:1], 0 * IMAGES[:1] + 1, IMAGES[2:]])
    other, basis = turn(edges), pca_basis(edges, 2)
    rest = (MASKS, edges, edges, MEAN, 50)
    cases = [
        ("^reference has", CWSSIM, other[2:], 2),
        ("^images has", norm_ratio, other, edges, MEAN),
        ("^the mean image has", explained_variance, edges, edges, turn(np.eye(*SHAPE))),
        ("^clean has", artefact_removal, other, edges, *rest),
        ("^corrupted has", artefact_removal, edges, other, *rest),
        ("^before has", reproduced_change, other, edges, edges, edges),
        ("^after has", reproduced_change, edges, other, edges, edges),
        ("^real has", pca_frechet_distance, basis, other, edges),
        ("^others has", generated_scores, None, basis, other, edges),
        ("^images has", aggregate_codes, None, other, 3),
        ("^ordinary has", ErrorMap, None, other),
    ]
    refused((f"{words} values from .*greys from 0 to 1", *rest) for words, *rest in cases)
    assert (cw_ssim(edges[2:], other[2:], 2) > 0.79).all()
    assert (artefact_removal(IMAGES, DIRTY, MASKS, other, other, MEAN, 50).reproduced == 0).all()
    rounded = edges.astype(np.float64) * (1 + 1e-6) - 5e-7
    assert (explained_variance_per_brain(edges, rounded, MEAN) > 0.999).all()


def test_of_an_answer_one_pixel_in_a_hundred_may_leave_the_greys():
    edge = IMAGES.copy()
    edge[0].flat[:7], edge[1].flat[:7] = 2.5, -3.0  # of 744 pixels
    assert explained_variance(IMAGES, edge, MEAN) < 1
    edge[0].flat[:8] = 2.5
    said = "^reconstructions has values from -3 to 2.5; greys"
    refused([(said, explained_variance, IMAGES, edge, MEAN)])
