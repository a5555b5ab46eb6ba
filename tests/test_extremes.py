"""Every metric and field in float32 as in float64, and at the ends of what can be asked of it.

There it gives a right value or an error of one line: never NaN in a table.
"""

import numpy as np
import pytest
from small_brains import sections
from toys import Answers, Toy, brains_of_regions

from brainvae_core import fields, metrics
from brainvae_core.metrics import codes

SHAPE, C = (20, 28), np.linspace(-7, 7, 29)

BRAINS, OTHERS = sections(12, 0), sections(12, 1)
MEAN, SQUARE = BRAINS.mean(axis=0), np.zeros((12, *SHAPE), bool)
SQUARE[:, 8:14, 8:20] = True
HOLED = np.where(SQUARE, np.float32(0), BRAINS)


def removal(images, answers):
    return np.stack(metrics.artefact_removal(images, HOLED, SQUARE, images, answers, MEAN, 50)[:3])


def distance(images, answers):
    return metrics.pca_frechet_distance(metrics.pca_basis(OTHERS, 3), images, answers)


# Of brains and of a model's answers to them.
OF_IMAGES = {
    "explained variance": lambda a, b: metrics.explained_variance(a, b, MEAN),
    "explained variance a brain": lambda a, b: metrics.explained_variance_per_brain(a, b, MEAN),
    "norm ratio": lambda a, b: metrics.norm_ratio(a, b, MEAN),
    "CW-SSIM": lambda a, b: metrics.cw_ssim(a, b, level=2),
    "PCA-FD": distance,
    "artefact removal": removal,
    "spectrum": lambda a, b: metrics.radial_spectrum(a - b, 200, 6)[1],
    "outlines": lambda a, b: metrics.pixel_detection(np.abs(a - b), SQUARE[: len(a)]),
    "change": lambda a, b: metrics.reproduced_change(a, HOLED[: len(a)], a, b),
    "error map": lambda a, b: metrics.ErrorMap(Answers(encode=lambda x: x, decode=lambda z: z), a)(
        b
    ),
    "estimate": lambda a, b: metrics.estimate(np.square(a - b).mean(axis=(1, 2))),
    "difference": lambda a, b: metrics.difference(a.mean(axis=(1, 2)), b.mean(axis=(1, 2))),
}


@pytest.mark.promise("float32 is float64 within a stated bound: objective, metrics, fields")
@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_metric_of_float32_is_that_of_float64(name):
    found, exact = (
        np.asarray(OF_IMAGES[name](BRAINS.astype(dtype), OTHERS.astype(dtype)), dtype=float)
        for dtype in (np.float32, np.float64)
    )
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)


# ---- the ends of what can be asked ----


def finite(asked) -> str:
    """ "answered", finitely, or "refused" in one line."""
    try:
        answer = asked()
    except ValueError as error:
        assert "\n" not in str(error) and 20 < len(str(error)) < 300
        return "refused"
    parts = answer if isinstance(answer, tuple) else (answer,)
    for part in parts:
        assert np.isfinite(np.asarray(part, dtype=np.float64)).all()
    return "answered"


BLANK, CONSTANT = BRAINS * (np.arange(12) > 0)[:, None, None], BRAINS.copy()
CONSTANT[:, SQUARE[0]] = 0.5
IMAGES = {
    "one brain": BRAINS[:1],
    "a blank section": BLANK.astype(np.float32),
    "every section blank": np.zeros_like(BRAINS),
    "a duplicate brain": np.concatenate([BRAINS[:11], BRAINS[:1]]),
    "one brain many times": np.repeat(BRAINS[:1], 12, axis=0),
    "a constant region": CONSTANT,
}
FULL = ("a blank section", "a duplicate brain", "a constant region")
NOTHING_THERE = ("CW-SSIM", "artefact removal")  # of a blank section, which has no artefact either


@pytest.mark.promise("at extremes there is a right value or an error of one line, never NaN")
@pytest.mark.parametrize("extreme", IMAGES)
@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_metric_of_images_at_an_extreme(name, extreme):
    images = IMAGES[extreme]
    others = OTHERS[: len(images)]
    asked = [(images, others), (others, images), (images, images)]
    found = [finite(lambda pair=pair: OF_IMAGES[name](*pair)) for pair in asked]
    blank = extreme == "a blank section" and name in NOTHING_THERE
    assert extreme not in FULL or found[0] == ("refused" if blank else "answered")


CODES = np.random.default_rng(0).standard_normal((30, 4))
CODE_SETS = {
    "one brain": CODES[:1],
    "one latent": CODES[:, :1],
    "more latents than brains": np.random.default_rng(1).standard_normal((30, 100)),
    "a dead latent": CODES * [1, 1, 0, 1],
    "every latent dead": np.zeros_like(CODES),
    "a latent twice": CODES[:, [0, 1, 2, 2]],
    "a duplicate brain": CODES[[0, *range(29)]],
    "one brain many times": np.repeat(CODES[:1], 30, axis=0),
    "of huge size": 1e18 * CODES,
    "of tiny size": 1e-18 * CODES,
}
UNUSUAL = np.arange(30) < 6
OF_CODES = {
    "active latents": metrics.active_latents,
    "matching": lambda z: metrics.match_latents(z, z[:, ::-1]),
    "matching by chance": lambda z: metrics.matching_null(z, z[:, ::-1], 3, 0),
    "linear recovery": lambda z: metrics.linear_recovery(z[:20], CODES[:20], z[20:], CODES[20:]),
    "factors recovered": lambda z: metrics.linear_recovery(CODES[:20], z[:20], CODES[20:], z[20:]),
    "spread": metrics.spread,
    "nearest": metrics.nearest_distances,
    "clustering": metrics.clustering,
    "outliers": lambda z: metrics.outlier_score(z, z + 1),
    "tails": lambda z: codes.tail_counts(z, z + 1),
    "sides": lambda z: metrics.sidedness_beyond_chance(z, UNUSUAL[: len(z)]),
    "Fréchet distance": lambda z: metrics.frechet_distance(z, z[::-1] + 1),
    "area": lambda z: metrics.auc(z[:, 0], z[:, 0] + 1),
    "estimate": lambda z: metrics.estimate(z[:, 0]),
    "of fits": lambda z: metrics.estimate(z.T),
    "difference": lambda z: metrics.difference(z[:, 0], z[::-1, 0]),
    "jackknife": lambda z: metrics.jackknife(lambda a: float(np.median(a)), [[z[:, 0]]]),
    "resamples": lambda z: metrics.from_resamples(z[:1, 0], z[:1], 30),
    "norm": lambda z: metrics.Norm(z).z(z + 1),
    "whole": lambda z: metrics.Norm(z).whole(z + 1),
}


@pytest.mark.promise("at extremes there is a right value or an error of one line, never NaN")
@pytest.mark.parametrize("extreme", CODE_SETS)
@pytest.mark.parametrize("name", OF_CODES)
def test_a_metric_of_codes_at_an_extreme(name, extreme):
    finite(lambda: OF_CODES[name](CODE_SETS[extreme]))


MASKS = np.stack([np.roll(SQUARE[0], step, axis=0) for step in (-6, 0, 6)])
REGIONS = brains_of_regions(MASKS, 12)
READ = {
    "one latent": REGIONS,
    "a hundred latents": REGIONS,
    "dead latents": REGIONS,
    "one brain": REGIONS[:1],
    "a blank section": REGIONS * (np.arange(12) > 0)[:, None, None],
    "every section blank": 0 * REGIONS,
    "a duplicate brain": REGIONS[[0, *range(11)]],
    "one brain many times": np.repeat(REGIONS[:1], 12, axis=0),
    "a constant region": np.where(MASKS[0], np.float32(0.5), REGIONS),
}
# One latent has no others, dead ones no shares, one brain no spread, a black region no brightness.
UNREAD = {"weights", "divergence", "added", "shares", "uncorrelatedness", "rotated", "moved"}
REFUSED = {
    "one latent": {"uncorrelatedness", "stars"},
    "dead latents": {"uncorrelatedness", "shares", "agreement"},
    "one brain": UNREAD | {"agreement"},
    "every section blank": UNREAD | {"agreement"},
    "one brain many times": {"weights"},
    "a constant region": {"weights"},
}
WIDTHS = {"one latent": 1, "a hundred latents": 100}


@pytest.mark.promise("at extremes there is a right value or an error of one line, never NaN")
@pytest.mark.parametrize("extreme", READ)
def test_fields_at_an_extreme(extreme):
    table = np.random.default_rng(0).standard_normal((WIDTHS.get(extreme, 3), 3))
    model = Toy(MASKS, 0 * table if extreme == "dead latents" else table)
    images = READ[extreme].astype(np.float32)
    weights = np.linspace(0.5, 1.5, 3)

    def received(**given):
        return fields.receptive_field(model, images, MASKS, weights, **given)

    def projected():
        return fields.projective_field(model, np.zeros(len(table)), C)

    asked = {
        "weights": lambda: fields.weight_range(images, MASKS),
        "divergence": lambda: received().divergence,
        "added": lambda: received(mode="add").effect_size,
        "shares": lambda: received().normalised(),
        "uncorrelatedness": lambda: fields.uncorrelatedness(received().divergence),
        "rotated": lambda: received().rotated(0).divergence,
        "variance": lambda: projected().variance,
        "asymmetry": lambda: fields.asymmetry(projected()),
        "tails": lambda: fields.tail_ratio(projected()),
        "colours": lambda: fields.stratified_rgb(projected()),
        "stars": lambda: fields.outlier_latents(projected()),
        "moved": lambda: fields.share_moved(received().effect_size),
        "agreement": lambda: fields.field_agreement(
            received().divergence, fields.region_profile(projected().variance_all, MASKS)
        ),
    }
    found = {name: finite(function) for name, function in asked.items()}
    refused_there = {name for name, what in found.items() if what == "refused"}
    assert refused_there == REFUSED.get(extreme, set())
