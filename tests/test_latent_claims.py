"""Each claim on a model of which it is true by construction, and on one of which it is not."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from toys import Toy, brains_of_regions

from brainvae_core import readings
from brainvae_core.fields import (
    both_directions,
    has_spot,
    share_gap,
    share_localised,
    share_moved,
    share_unmoved,
)
from brainvae_core.latent_claims import (
    MARGINS,
    association_claims,
    latent_stability,
    projective_claims,
    receptive_claims,
)
from brainvae_core.metrics import verdict
from brainvae_core.settings import Settings

ROIS = ("SSp", "HPF", "STR", "TH", "RSP", "HY")
EVERY = (*ROIS, "AUD", "PIR", "COA", "VS")
LATENTS, SHAPE, N = 6, (22, 16), 60


def masks_of(acronyms):
    """Bands of rows, a name each."""
    drawn = np.zeros((len(EVERY), *SHAPE), dtype=bool)
    for i, mask in enumerate(drawn):
        mask[2 * i : 2 * i + 2, 1:-1] = True
    return drawn[[EVERY.index(a) for a in acronyms]]


ATLAS = SimpleNamespace(
    roi_masks=masks_of, regions=lambda share: EVERY, brain_mask=np.ones(SHAPE, dtype=bool)
)
IMAGES = brains_of_regions(masks_of(EVERY), N)
P = Settings().changed({"fields.rois": ROIS, "fields.n_read": N})


class Noisy(Toy):
    """Its codes vary by themselves, so that a region's effect has a size."""

    def __init__(self, masks, reads, writes=None, noise=0.3):
        super().__init__(masks, reads, writes)
        self.noise = noise

    def posterior(self, images):
        mean = self.encode(images)
        return mean, np.full_like(mean, self.noise)


@pytest.fixture(autouse=True)
def of_toys(monkeypatch):
    monkeypatch.setattr(readings, "clean_test", lambda p, cohort: IMAGES)
    monkeypatch.setattr(readings, "DRAWS", 60)


def toy(reads, writes=None):
    """A reader and painter of regions by weights (latent_dim, n_rois)."""
    return Noisy(masks_of(EVERY), reads, writes)


@cache
def read(model, table):
    return getattr(readings, table)(P, SimpleNamespace(atlas=ATLAS))(SimpleNamespace(model=model))


def rows(model, table="statements", name="β-VAE", seeds=1):
    found = read(model, table)
    fits = [found.assign(model=name, seed=seed) for seed in range(seeds)]
    return pd.concat(fits, ignore_index=True)


def decided(claims):
    assert {*claims} <= {*MARGINS}
    return {claim: verdict(of.values(), MARGINS[claim]) for claim, of in claims.items()}


FAINT = np.random.default_rng(9).uniform(0.01, 0.03, (LATENTS, len(EVERY)))
ALL = np.random.default_rng(0).uniform(1.5, 2.5, (LATENTS, len(EVERY)))
ONE_EACH = FAINT + 2 * np.eye(LATENTS, len(EVERY))
EACH_ITS_OWN, MIXED = toy(ONE_EACH), toy(ALL)


def weights(**of):
    """Weights in which a region has those given, and all others next to none."""
    table = FAINT.copy()
    for name, values in of.items():
        table[:, EVERY.index(name)] = values
    return table


# ---- what regions do ----


def test_hpf_moves_all_latents_and_str_most():
    model = toy(weights(HPF=2, STR=[2] * 4 + [0, 0], TH=[2] + [0] * 5))
    found = decided(receptive_claims(rows(model), N))
    assert found["HPF modulates almost all latents"] == "holds"
    assert found["HPF modulates more latents than any other region"] == "holds"
    assert found["STR reaches many latents"] == "holds"
    assert found["some latents are not modulated by some regions"] == "holds"


def test_every_latent_sees_its_own_region():
    found = decided(receptive_claims(rows(EACH_ITS_OWN, seeds=3), N))
    assert found["many latents have a localised receptive field"] == "holds"
    assert found["some latents are not modulated by some regions"] == "holds"
    assert found["HPF modulates more latents than any other region"] == "equivalent"  # one each
    assert found["HPF modulates almost all latents"] == "does not hold"
    assert found["STR reaches many latents"] == "does not hold"


def test_every_latent_sees_every_region():
    found = rows(MIXED)[lambda t: t["over"] == "6 named regions"]
    found = decided(receptive_claims(found, N))
    assert found["many latents have a localised receptive field"] == "does not hold"
    assert found["some latents are not modulated by some regions"] == "does not hold"
    assert found["HPF modulates more latents than any other region"] == "equivalent"


def test_another_region_moves_more_latents_than_hpf():
    model = toy(weights(HPF=[2, 2] + [0] * 4, TH=2))
    found = decided(receptive_claims(rows(model), N))
    assert found["HPF modulates more latents than any other region"] == "does not hold"


def test_shares_keep_leading_axes_and_leave_out_what_is_not_active():
    shifts = np.array([[0.5, -0.9, 0.1], [0.49, 0.2, 0.0], [0.3, 0.19, 2.0]])
    active = np.array([True, True, False])
    np.testing.assert_allclose(share_moved(shifts, active), [1, 0, 0])
    assert share_unmoved(shifts, active) == pytest.approx(1 / 6)
    assert share_localised(shifts, active) == 1 and share_localised(shifts) == 1
    assert share_localised(np.ones((3, 3))) == 0 == share_localised(np.zeros((3, 3)))
    stack = np.stack([shifts, 0 * shifts])
    assert share_moved(stack).shape == (2, 3) and share_unmoved(stack).tolist()[1] == 1
    gap = share_gap(np.array([[3.0, 0], [1, 0]]), np.array([[1.0, 1], [2, 0]]))
    np.testing.assert_allclose(gap, [[0.25, -1], [-0.25, 0]])


def test_fields_are_those_of_the_model_whatever_the_order_of_its_rows():
    found = rows(toy(ONE_EACH), "fields")
    assert (found["value"] >= 0).all() and set(found["over"]) == {*readings.regions_read(P, ATLAS)}
    of = found[(found["over"] == "all 10 regions")].sample(frac=1, random_state=0)
    masks = masks_of(EVERY)
    both = both_directions(toy(ONE_EACH), IMAGES, masks, np.linspace(-7, 7, readings.N_C))
    for score, expected in {
        "divergence": both.receptive.divergence,
        "shift": np.abs(both.receptive.effect_size),
        "profile": both.profile.T,
    }.items():
        found = readings.matrix(of[of["score"] == score], EVERY)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


# ---- what latents do ----


class Ends(Toy):
    """Beyond 3 a latent makes a bright spot; SSp, HPF and RSP only answer to positive c."""

    spot = True

    def decode(self, z):
        z = np.asarray(z, dtype=float)
        one_sided = np.isin(EVERY, ("SSp", "HPF", "RSP"))
        levels = 0.5 + np.where(one_sided, np.maximum(z, 0) @ self.writes, z @ self.writes)
        images = np.tensordot(levels, self.masks.astype(float), 1)
        if self.spot:
            images[:, 20:22, 3:8] += 2 * (np.abs(z).max(axis=1) > 3)[:, None, None]
        return images.astype(np.float32)


def coded(z, clean=None, name="β-VAE", seed=0):
    """Codes as rows of the table."""
    n, latents = z.shape
    clean = np.ones(n, dtype=int) if clean is None else clean
    return pd.DataFrame(
        {
            "model": name,
            "seed": seed,
            "brain": np.repeat(np.arange(n), latents),
            "clean": np.repeat(clean, latents),
            "latent": np.tile([f"F{k + 1}" for k in range(latents)], n),
            "value": z.ravel(),
        }
    )


def test_spots_at_the_ends_and_one_tail_for_the_anatomical_regions():
    faint = 0.01 * ALL
    z = np.random.default_rng(1).normal(size=(80, LATENTS))
    clean = (np.arange(80) >= 20).astype(int)
    z[:20] = 5 + z[:20]  # all in one tail
    model = Ends(masks_of(EVERY), ONE_EACH, faint)
    found = projective_claims(rows(model, "tails"), coded(z, clean), ROIS)
    assert decided(found) == {
        "bright spots appear at the extremes of c": "holds",
        "some latents' tails stand out": "does not hold",
        "one tail holds the suspected brains": "holds",
        "one tail moves SSp, HPF and RSP": "holds",
    }
    z[:20] = np.random.default_rng(2).normal(size=(20, LATENTS))
    plain = Toy(masks_of(EVERY), ONE_EACH, faint)
    found = decided(projective_claims(rows(plain, "tails"), coded(z, clean), ROIS))
    assert found["bright spots appear at the extremes of c"] == "equivalent"
    assert found["one tail moves SSp, HPF and RSP"] == "equivalent"
    assert found["one tail holds the suspected brains"] != "holds"
    assert "one tail holds the suspected brains" not in projective_claims(
        rows(plain, "tails"), coded(z), ROIS
    )


class OneStar(Toy):
    """Its third latent does far more at one end."""

    def decode(self, z):
        z = np.array(z, dtype=float)
        z[:, 2] = np.where(z[:, 2] > 3.5, 9 * (z[:, 2] - 3.5) + 3.5, z[:, 2])
        return super().decode(z)


def test_one_latent_is_a_star():
    model = OneStar(masks_of(EVERY), ONE_EACH, 0.01 * ALL)
    found = projective_claims(rows(model, "tails"), coded(np.ones((9, LATENTS))), ROIS)
    assert decided(found)["some latents' tails stand out"] == "holds"


def test_a_spot_is_brighter_than_any_brain_and_neither_a_speck_nor_everywhere():
    brightest, brain = np.full((50, 60), 0.5), np.ones((50, 60), dtype=bool)
    images = np.tile(brightest, (5, 1, 1))
    images[1, 4:8, 4:8] = 0.6
    images[2, 4:8, 4:8] = 0.54
    images[3, 4, 4] = images[3, 20, 20] = 0.9
    images[4, :30] = 0.9
    assert has_spot(images, brightest, brain).tolist() == [False, True, False, False, False]


# ---- both together ----


def three(model, **others):
    names = ("PCA", "VAE", "β-VAE")
    return pd.concat([rows(others.get(name, model), name=name, seeds=2) for name in names])


def codes_of(*fits):
    return dict.fromkeys(("PCA", "VAE", "β-VAE"), list(fits))


def test_a_model_whose_latents_see_and_move_one_region_each():
    z = np.random.default_rng(3).normal(size=(N, LATENTS))
    table = three(EACH_ITS_OWN, VAE=MIXED, PCA=MIXED)
    found = association_claims(table, codes_of(z, z[:, ::-1], -z), N, 10)
    assert decided(found) == {
        "a latent's two fields differ in HPF more than PCA's do": "equivalent",
        "PCA: a latent moves what it sees": "holds",
        "VAE: a latent moves what it sees": "holds",
        "β-VAE: a latent moves what it sees": "holds",
        "β-VAE less correlated than VAE": "holds",
        "β-VAE less correlated than PCA": "holds",
        "β-VAE less correlated than its random axes": "holds",
        "latents come back in another fit": "holds",
    }
    assert [*found["β-VAE less correlated than VAE"]] == ["6 named regions", "all 10 regions"]
    # Of one fit no model is compared and no latent comes back.
    of_one = association_claims(table[table["seed"] == 0], codes_of(z), N, 10)
    assert {*found} - {*of_one} == {
        "β-VAE less correlated than VAE",
        "β-VAE less correlated than PCA",
        "latents come back in another fit",
    }
    same = table[table["model"] == "β-VAE"]
    same = pd.concat([same.assign(model=name) for name in ("PCA", "VAE", "β-VAE")])
    found = decided(association_claims(same, codes_of(z, z), N, 10))
    assert found["β-VAE less correlated than VAE"] == "equivalent"


def test_a_model_that_moves_what_it_does_not_see():
    writes = np.roll(ONE_EACH, 1, axis=1)
    z = np.random.default_rng(3).normal(size=(N, LATENTS))
    turned = z @ np.linalg.qr(np.random.default_rng(5).normal(size=(LATENTS, LATENTS)))[0]
    table = three(toy(ONE_EACH, writes), PCA=EACH_ITS_OWN)
    found = decided(association_claims(table, codes_of(z, turned), N, 10))
    assert found["a latent's two fields differ in HPF more than PCA's do"] == "holds"
    assert found["β-VAE: a latent moves what it sees"] != "holds"
    assert found["latents come back in another fit"] == "does not hold"


def test_matched_latents_come_back_whatever_their_order_and_sign():
    z = np.random.default_rng(6).normal(size=(40, 3))
    assert latent_stability([z, z[:, [2, 0, 1]] * [1, -1, 1]]).value == pytest.approx(1)
    other = np.random.default_rng(7).normal(size=(40, 3))
    found, r = latent_stability([z, z, other]), latent_stability([z, other])
    assert found.value == pytest.approx((1 + 2 * r.value) / 3)  # of three pairs
    assert (found.n_seeds, r.n_seeds) == (3, 2) and 0 <= found.low < 0.3 and found.high == 1


def test_the_interval_of_a_share_that_few_draws_change_holds_it():
    draws = np.r_[np.full(57, 0.75), np.ones(3)]
    table = pd.DataFrame({"seed": 0, "kind": ["value"] + ["draw"] * 60, "value": [0.75, *draws]})
    found = readings.reading(table, 40, bounds=(0, 1))
    assert found.low <= found.value == 0.75 <= found.high < 1.02


def test_errors_name_what_was_given():
    table = rows(EACH_ITS_OWN)
    refused(
        [
            (r"shifts of shape \(3,\)", share_moved, np.ones(3)),
            (
                r"divergences \(2, 3\) and profile \(2, 3\)",
                share_gap,
                np.ones((2, 3)),
                np.ones((2, 3)),
            ),
            ("of one size", has_spot, np.ones((2, 3)), np.ones((3, 2)), np.ones((3, 2))),
            ("^.* rows are not one score of one model", readings.reading, table, N),
        ]
    )
