"""What is asked of a planted cohort's models: true of one that was told, and of no random axes."""

import numpy as np
import pytest

from brainvae_core.cohorts import SIMULATORS
from brainvae_core.metrics import named, summarise, verdict
from brainvae_core.models import PCA
from brainvae_core.planted import AXES, FACTOR_RANGE, AsAdjusted, Asked, recovered
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
def asked(request, p):
    return Asked(p, truth_cohort(p, request.param))


def test_what_is_planted_is_what_a_section_of_one_brightness_shows(asked):
    simulator, n = AsAdjusted(asked.simulator, asked.cohort), len(asked.names)
    z = np.concatenate([np.zeros((1, n)), np.eye(n), -np.eye(n)]) * FACTOR_RANGE
    inside = asked.cohort.atlas.brain_mask
    means = simulator.decode(z)[:, inside].mean(axis=1)
    np.testing.assert_allclose(means, asked.cohort.images[:, inside].mean(), rtol=0.01)
    assert list(asked.planted.factors) == asked.names and "brightness" not in asked.names
    assert asked.planted.moved.shape == (n, len(asked.masks))


def test_told_the_factors_the_claim_holds_and_of_random_axes_it_does_not(asked):
    rows = asked.rows(asked.told)
    assert set(rows["axes"]) == {*AXES} and set(rows["brain"]) == {*asked.names}
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


def test_a_table_has_the_rows_of_a_run(asked):
    class Run:
        model = PCA.fit(asked.train.images, 9)

    rows, again = recovered(asked.p, asked.cohort)(Run), asked.rows(Run.model)
    np.testing.assert_array_equal(rows["value"], again["value"])
    shares = rows[rows["axes"].isin(AXES[:2])]["value"]
    assert shares.max() <= 1 and rows["value"].notna().all()
