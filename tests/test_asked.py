"""What is asked of a planted cohort's models: true of one that was told, and of no random axes."""

import numpy as np
import pytest

from brainvae_core.cohorts import SIMULATORS, Cohort
from brainvae_core.metrics import named, summarise, verdict
from brainvae_core.models import PCA
from brainvae_core.planted import (
    AXES,
    FACTOR_RANGE,
    AsAdjusted,
    TruthTest,
    explained_by_factors,
    recovered,
)
from brainvae_core.prepare import truth_cohort
from brainvae_core.settings import Settings

MARGIN = 0.1
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def p(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    small = {"n_brains": 300, "cohort.shape": [40, 56], "n_rotations": 12, "n_read": 16}
    return Settings().changed({"data": f"{folder}/data", "runs": f"{folder}/runs", **small})


@pytest.fixture(scope="module", params=SIMULATORS)
def truth(request, p):
    return TruthTest(p, truth_cohort(p, request.param))


def test_what_is_planted_is_what_a_section_of_one_brightness_shows(truth):
    simulator, n = AsAdjusted(truth.cohort), len(truth.names)
    z = np.concatenate([np.zeros((1, n)), np.eye(n), -np.eye(n)]) * FACTOR_RANGE
    inside = truth.cohort.atlas.brain_mask
    means = simulator.decode(z)[:, inside].mean(axis=1)
    np.testing.assert_allclose(means, truth.cohort.images[:, inside].mean(), rtol=0.01)
    assert list(truth.planted.factors) == truth.names and "brightness" not in truth.names
    assert truth.planted.moved.shape == (n, len(truth.masks))


def test_factors_explain_all_but_texture_and_nothing_in_another_order(truth):
    whole, sizes = truth.cohort, ((40, 56), (20, 28))
    rendered = AsAdjusted(whole).decode(whole.factors)
    parts = {"metadata": whole.metadata, "atlas": whole.atlas, "preprocessing": whole.preprocessing}
    smooth = Cohort(rendered, factors=whole.factors, **parts)
    assert [of.value for of in explained_by_factors(smooth, *sizes)] == pytest.approx([1, 1])
    of_brains = explained_by_factors(whole, *sizes)
    assert 0.2 < of_brains[0].value < of_brains[1].value < 1  # fewer pixels have less noise
    other = whole.factors.sample(frac=1, random_state=0).set_axis(whole.factors.index)
    (exchanged,) = explained_by_factors(Cohort(whole.images, factors=other, **parts), sizes[0])
    assert exchanged.high < 0
    (unknown,) = explained_by_factors(Cohort(whole.images, **parts), sizes[0])
    assert np.isnan(unknown.value) and unknown.n_brains == len(whole)


def test_told_the_factors_the_claim_holds_and_of_random_axes_it_does_not(truth):
    rows = truth.rows(truth.factor_model)
    assert set(rows["axes"]) == {*AXES} and set(rows["brain"]) == {*truth.names}
    wide = rows.pivot_table("value", ["score", "brain"], "axes")
    own, chance, less, control = (wide[of] for of in AXES)
    np.testing.assert_allclose(own - chance, less, atol=1e-12)
    best, field = own["R² of the best latent"], own["projective field right"]
    assert best.min() > 0.5 and field.mean() >= 0.75
    np.testing.assert_allclose(best, own["R² from all latents"], atol=0.15)
    told = named(summarise(rows, ["score", "axes"]), "{axes}: {score}")
    for score in ("R² of the best latent", "recovered"):
        assert verdict([told[f"{AXES[2]}: {score}"]], MARGIN) == "holds"
        assert verdict([told[f"{AXES[3]}: {score}"]], MARGIN) != "holds"


def test_a_table_has_the_rows_of_a_run(truth):
    class Run:
        model = PCA.fit(truth.train.images, 9)

    rows, again = recovered(truth.p, truth.cohort)(Run), truth.rows(Run.model)
    np.testing.assert_array_equal(rows["value"], again["value"])
    shares = rows[rows["axes"].isin(AXES[:2])]["value"]
    assert shares.max() <= 1 and rows["value"].notna().all()
