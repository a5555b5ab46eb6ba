"""Tables of scores: known answers, and claims that are true of made models."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from brainvae_core import scores
from brainvae_core.claims import Claims
from brainvae_core.models import PCA, LinearGaussian, MeanImage, NearestBrain
from brainvae_core.prepare import prepare_cohort
from brainvae_core.settings import Settings

SMALL = {
    "cohort.n_brains": 160,
    "cohort.shape": (80, 112),
    "evaluation.fd_dim": 4,
    "evaluation.n_graded": 5,
    "evaluation.n_importance": 8,
    "evaluation.artefact_strengths": (0.5, 1.0),
}


class Made:
    """Answers images by a function; a code is the answer itself."""

    def __init__(self, answer=lambda images: images):
        self.answer = answer

    def encode(self, images):
        return self.answer(images).reshape(len(images), -1)

    def decode(self, z):
        return z.reshape(-1, 80, 112).astype(np.float32).clip(0, 1)

    def reconstruct(self, images):
        return self.answer(images)


@pytest.fixture(scope="module")
def p(tmp_path_factory):
    root = tmp_path_factory.mktemp("places")
    places = {f"places.{name}": str(root / name) for name in ("data", "runs", "results")}
    return Settings().changed(SMALL | places)


@pytest.fixture(scope="module")
def cohort(p):
    return prepare_cohort(p)


@pytest.fixture(scope="module")
def models(cohort):
    train = cohort.split("train").images
    return {
        "copy": Made(),
        "mean image": MeanImage.fit(train),
        "nearest brain": NearestBrain.fit(train),
        "PCA": PCA.fit(train, 4),
        "blurred": Made(lambda x: gaussian_filter(x, (0, 1.5, 1.5))),
    }


def rows(p, cohort, name, models):
    """As `results.table`, of models that are no runs."""
    of_run = scores.TABLES[name].made(p, cohort)
    config = SimpleNamespace(latent_dim=4)
    tables = [
        of_run(SimpleNamespace(model=m, config=config)).assign(model=k) for k, m in models.items()
    ]
    return pd.concat(tables, ignore_index=True)


def mean_of(table, **by):
    of = table[np.logical_and.reduce([table[name] == value for name, value in by.items()])]
    assert len(of)
    return of["value"].mean()


NEAR = {"abs": 1e-5}


@pytest.mark.slow
def test_a_copy_is_perfect_and_the_mean_image_says_nothing(p, cohort, models):
    ends = {name: models[name] for name in ("copy", "mean image")}
    for name, score, copied, nothing in (
        ("reconstruction", "explained variance", 1, 0),
        ("reconstruction", "CW-SSIM", 1, None),
        ("reconstruction", "deviation", 1, 0),
        ("reconstruction", "training less test", 0, 0),
        ("spectrum", "power left", 0, 1),
        ("spectrum", "fine", 0, 1),
        ("spectrum", "coarse", 0, 1),
        ("removal", "reproduced", 1, 0),
        ("removal", "kept", None, 0),
        ("removal", "explained", 1, 0),
        ("removal_along_l", "reproduced", 1, 0),
        ("detection", "pixels", 0.5, None),
        ("noticed", "brain, by error", 0.5, None),
        ("anatomy", "comes back", 1, 0),
    ):
        found = rows(p, cohort, name, ends)
        for model, wanted in (("copy", copied), ("mean image", nothing)):
            if wanted is not None:
                of = mean_of(found, score=score, model=model)
                assert of == pytest.approx(wanted, **NEAR), (name, score, model)


def test_artefacts_have_every_kind_strength_and_brain(p, cohort, models):
    found = rows(p, cohort, "removal", {"PCA": models["PCA"]})
    counts = found.groupby("score")[["kind", "strength", "brain"]].nunique()
    assert (counts == [3, 2, 5]).all(axis=None)
    assert set(found["kind"]) == {"leak", "breakage", "grid's lines"}
    at_full = found[found["strength"] == 1].drop(columns="strength").reset_index(drop=True)
    along = rows(p, cohort, "removal_along_l", {"PCA": models["PCA"]}).drop(columns="strength")
    pd.testing.assert_frame_equal(along, at_full)


def test_a_copys_reconstructions_are_as_far_as_real_brains(p, cohort, models):
    found = rows(p, cohort, "distance", {"copy": models["copy"], "mean": models["mean image"]})
    wide = found[found["model"] == "copy"].pivot(index="left_out", columns="score", values="value")
    np.testing.assert_allclose(wide["reconstructions"], wide["real brains"], rtol=1e-5)
    assert len(wide) == 1 + min(20, found["n_brains"].iloc[0])
    assert "prior samples" not in set(found[found["model"] == "mean"]["score"])


def test_a_bound_is_below_the_exact_likelihood_and_near_it(p, cohort, models):
    train = cohort.split("train").images
    same = LinearGaussian.fit_ppca(train, 4)
    found = rows(p, cohort, "likelihood_along_l", {"exact": models["PCA"], "bound": same})
    exact, bound = (mean_of(found, score="log p(x)", model=name) for name in ("exact", "bound"))
    assert exact - 20 < bound <= exact
    assert mean_of(found, score="gain on the ELBO", model="bound") >= 0


def test_codes_that_spread_further_are_told(p, cohort):
    rng = np.random.default_rng(0)
    n = len(cohort.split("test").images)
    narrow, ones = rng.standard_normal((n, 3)), np.full((n, 3), 0.1)
    sides = {k: SimpleNamespace(posterior=lambda x, k=k: (k * narrow, ones)) for k in (1, 2)}
    found = rows(p, cohort, "dispersion", sides)
    found = found[found["left_out"] == 0].pivot(index="model", columns="score", values="value")
    for score in ("spread of the codes", "nearest neighbour"):
        assert found.loc[2, score] == pytest.approx(2 * found.loc[1, score])
    assert found.loc[2, "clustering"] == pytest.approx(found.loc[1, "clustering"])


# ---- positive controls: each claim is said to hold where it is true by construction ----


def test_claims_that_are_true_by_construction_hold(p, cohort, models):
    says = Claims()
    for name, score, a, b, margin in (
        ("reconstruction", "training less test", "nearest brain", "PCA", 0.01),
        ("detection", "pixels", "PCA", "copy", 0.05),
    ):
        found = rows(p, cohort, name, {k: models[k] for k in (a, b)})
        found = found[found["score"] == score].groupby(["model", "brain"])["value"].mean()
        says.add(score, found.reset_index(), a, b, margin)
    apart = rows(p, cohort, "distance", {k: models[k] for k in ("mean image", "PCA")})
    apart = apart[apart["score"] == "reconstructions"]
    says.add("more components are nearer", apart, "mean image", "PCA", 0.5)
    blurred = rows(p, cohort, "spectrum", {"blurred": models["blurred"]})
    says.add("misses high frequencies", blurred, "fine", "coarse", 0.05, of="score")
    for claim in ("training less test", "pixels", "more components are nearer"):
        assert says[claim] == says["misses high frequencies"] == "holds", claim
