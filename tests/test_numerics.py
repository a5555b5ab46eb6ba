"""Numbers against higher precision and closed forms, and at the ends of what can be asked."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from small_brains import fit_alone, sections
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl_divergence
from toys import Answers, Toy, brains_of_regions

from brainvae_core import fields, metrics
from brainvae_core.models import PCA, BetaVAE, BetaVAEConfig, PCAConfig, elbo_terms
from brainvae_core.models.objectives import LIKELIHOODS, Terms, terms_of
from brainvae_core.models.vae import kl_divergence

SHAPE, C = (20, 28), np.linspace(-7, 7, 29)


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def in_both(latent_dim, seed=0):
    """A network in float32, and the same weights in float64."""
    torch.manual_seed(seed)
    model = BetaVAE(latent_dim, SHAPE)
    double = BetaVAE(latent_dim, SHAPE)
    double.load_state_dict(model.state_dict())
    return model, double.double()


# ---- the objective: KL in closed form, gradients by finite differences, float32 by float64 ----


@pytest.mark.promise("the objective is that of closed forms and second implementations")
@given(mean=st.floats(-5, 5), logvar=st.floats(-8, 4))
def test_kl_is_that_of_two_normals(mean, logvar):
    mean, logvar = torch.tensor([[mean]]).double(), torch.tensor([[logvar]]).double()
    expected = reference_kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0))
    np.testing.assert_allclose(kl_divergence(mean, logvar), expected, rtol=1e-9, atol=1e-9)


def test_kl_keeps_its_digits_next_to_the_prior():
    # KL ≈ logvar²/4 there; 1 + logvar has lost it in float32.
    logvar = torch.tensor([1e-3, -1e-3])
    np.testing.assert_allclose(kl_divergence(torch.zeros(2), logvar), 2.5e-7, rtol=2e-3)


@pytest.mark.promise("gradients are those of finite differences")
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("beta", [0.0, 3.0])
def test_gradients_are_those_of_finite_differences(likelihood, beta):
    images = drawn(5, 3, 4).sigmoid()
    mean, logvar = (drawn(5, 3, seed=s).requires_grad_() for s in (1, 2))
    logits, log_sigma = drawn(5, 3, 4, seed=3).requires_grad_(), drawn(seed=4).requires_grad_()

    def kl(mean, logvar):
        return kl_divergence(mean, logvar).sum()

    def loss(mean, logvar, logits, log_sigma):
        distortion = LIKELIHOODS[likelihood].negative_log(logits, images, log_sigma)
        terms = Terms(distortion, kl_divergence(mean, logvar), mean)
        return terms.loss(beta, torch.tensor(0.4).double())

    assert torch.autograd.gradcheck(kl, (mean, logvar))
    assert torch.autograd.gradcheck(loss, (mean, logvar, logits, log_sigma))


def test_the_whole_networks_gradient_is_that_of_finite_differences():
    _, double = in_both(2)
    images, noise = drawn(2, *SHAPE).sigmoid().requires_grad_(), drawn(2, 2, seed=1)

    def loss(images):
        terms = terms_of(double, images, noise, "gaussian", double.log_sigma)
        return terms.loss(3.0, torch.tensor(1.0).double())

    assert torch.autograd.gradcheck(loss, (images,), fast_mode=True)


@pytest.mark.promise("float32 is float64 within a stated bound: objective, metrics, fields")
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("latent_dim", [1, 8, 100])
def test_the_objective_in_float32_is_that_in_float64(likelihood, latent_dim):
    model, double = in_both(latent_dim)
    images, noise = drawn(4, *SHAPE).sigmoid(), drawn(4, latent_dim, seed=1)
    found = []
    for one, dtype in ((model, torch.float32), (double, torch.float64)):
        terms = terms_of(one, images.to(dtype), noise.to(dtype), likelihood, one.log_sigma)
        loss = terms.loss(3.0, torch.ones((), dtype=dtype))
        loss.backward()
        gradient = torch.cat([p.grad.flatten().double() for p in one.parameters()])
        found.append((loss.item(), terms.kl.detach().double(), gradient))
    (loss, kl, gradient), (exact, exact_kl, exact_gradient) = found
    assert loss == pytest.approx(exact, rel=1e-5)
    assert (kl - exact_kl).abs().max() <= 1e-4 * exact_kl.abs().max()
    assert (gradient - exact_gradient).norm() <= 1e-3 * exact_gradient.norm()


# ---- metrics and fields: of float32 images as of the same in float64 ----

BRAINS, OTHERS = sections(12, 0), sections(12, 1)
MEAN, SQUARE = BRAINS.mean(axis=0), np.zeros((12, *SHAPE), bool)
SQUARE[:, 8:14, 8:20] = True
HOLED = np.where(SQUARE, np.float32(0), BRAINS)


def removal(images, answers):
    return np.stack(metrics.artefact_removal(images, HOLED, SQUARE, images, answers, MEAN, 50)[:3])


def distance(images, answers):
    return metrics.pca_frechet_distance(metrics.pca_basis(OTHERS, 3), images, answers)


COPIES = Answers(encode=lambda images: images, decode=lambda z: 0.9 * z)
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


@pytest.mark.promise("float32 is float64 within a stated bound: objective, metrics, fields")
def test_fields_in_float32_are_those_in_float64():
    model, double = in_both(3)
    masks = np.stack([SQUARE[0], np.roll(SQUARE[0], 6, axis=0), np.roll(SQUARE[0], 8, axis=1)])

    def posterior(images):
        with torch.no_grad():
            mean, logvar = double.posterior_parameters(torch.from_numpy(images).double())
        return mean.numpy(), np.exp(logvar.numpy() / 2)

    def decode(z):
        with torch.no_grad():
            return double.logits(torch.from_numpy(z).double()).sigmoid().numpy()

    exact = Answers(posterior=posterior, decode=decode)
    one, other = (fields.both_directions(m, BRAINS, masks, C) for m in (model, exact))
    found, wanted = one.receptive.divergence, other.receptive.divergence
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6)
    found, wanted = one.projective.variance_all, other.projective.variance_all
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * wanted.max())


@pytest.mark.promise("KL and Fréchet distance are those of closed forms")
@pytest.mark.parametrize("n", [9, 400])
def test_frechet_distance_is_that_of_gaussians_with_common_axes(n):
    rng = np.random.default_rng(0)
    white = np.linalg.qr(rng.standard_normal((n, 7)) - 0)[0]
    white = np.linalg.qr(white - white.mean(axis=0))[0] * math.sqrt(n - 1)
    one, other, shift = rng.uniform(0.1, 3, (3, 7))
    found = metrics.frechet_distance(white * one, white * other + shift)
    assert found == pytest.approx((shift**2 + (one - other) ** 2).sum(), rel=1e-9)


# ---- the ends of what can be asked: a right value, or an error of one line ----


@pytest.mark.promise("at extremes there is a right value or an error of one line, never NaN")
@pytest.mark.parametrize("latent_dim", [1, 100])
@pytest.mark.parametrize("beta", [0.0, 3.0, 1e4])
def test_a_fit_at_an_extreme_is_finite(latent_dim, beta):
    train, validation = sections(8, 0, (10, 14)), sections(3, 1, (10, 14))
    config = BetaVAEConfig(latent_dim, beta, steps=3, batch_size=4, precision="float32")
    model, (row,), failure, _ = fit_alone(replace(config, validate_every=3), train, validation)
    assert failure is None and np.isfinite([*row.values()]).all()
    distortion, rate = elbo_terms(model, config, validation)
    expected = (distortion + beta * rate).mean()
    assert row["validation_loss"] == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(model.reconstruct(validation)).all()


def test_too_few_or_equal_brains_are_refused_by_every_fit():
    train, config = sections(6, 0, (10, 14)), BetaVAEConfig(2, steps=2, batch_size=2)
    alike = np.repeat(train[:1], 6, axis=0)
    refused(
        [
            ("1 training images; a fit needs at least 2", fit_alone, config, train[:1], train),
            ("1 validation images", fit_alone, config, train, train[:1]),
            ("6 training images are all the same", fit_alone, config, alike, train),
            ("6 validation images are all the same", fit_alone, config, train, alike),
            ("6 validation images are all the same", fit_alone, PCAConfig(1), train, alike),
            ("these 6 images differ in only 0 directions", PCA.fit, alike, 1),
        ]
    )


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
    "tails": lambda z: metrics.tail_counts(z, z + 1),
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
