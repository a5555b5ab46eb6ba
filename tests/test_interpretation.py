"""What the chapters on the latents fit besides: which models, of which cohorts, nothing twice."""

import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from brainvae_core.cohorts import clean_part
from brainvae_core.fields import Recovery
from brainvae_core.interpretation import (
    family_models,
    fit_interpreted,
    freeform_cohort,
    freeform_models,
    grid_through,
    living,
    planted_cohort,
    planted_grid,
    told_model,
    varied_cohorts,
    varied_models,
    with_training_brains,
)
from brainvae_core.models import BetaVAEConfig, LinearGaussian, PCAConfig, run_name, save_run
from brainvae_core.prepare import prepare_cohort
from brainvae_core.profile import (
    Parameters,
    evaluated_models,
    evaluation_cohort,
    grid_cohort,
    main,
    study,
)

# 40 simulated brains, 28 of them for training; unequal numbers of everything.
TINY = {
    "profile": "tiny",
    "n_brains": 40,
    "height": 80,
    "width": 112,
    "latent_dim": 3,
    "batch_size": 4,
    "steps": 2,
    "grid_betas": [1, 3, 5],
    "grid_latent_dims": [2, 3],
    "grid_seeds": [0],
    "grid_height": 40,
    "grid_width": 56,
    "grid_steps": 3,
    "eval_height": 40,
    "eval_width": 56,
    "eval_steps": 4,
    "eval_seeds": [0, 1],
    "curve_latent_dims": [2],
    "n_read": 4,
    "objectives": ["capacity", "mmd"],
    "varied_brains": [9, 1000],
    "varied_artefact_shares": [0.0],
    "device": "cpu",
}


@pytest.fixture(scope="module")
def p(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return Parameters(**TINY, data=str(folder / "data"), runs=str(folder / "runs"))


@pytest.fixture(scope="module")
def planted(p):
    return planted_cohort(p)


@pytest.fixture(scope="module")
def ahead(p):
    """Everything of the stage, fitted."""
    fit_interpreted(p)
    return fits_of(p)


@contextmanager
def no_fits():
    """Whatever is still to be fitted is an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BetaVAEConfig, "fit_together", None)
        patch.setattr(PCAConfig, "fit_together", None)
        yield


@pytest.fixture(scope="module")
def recovered(p, planted, ahead):
    with no_fits():
        return planted_grid(p, planted, np.linspace(-7, 7, 9))


def fits_of(p):
    return sorted(folder.name for folder in Path(p.runs).glob("[!.]*"))


def splits(cohort):
    return cohort.metadata["split"].value_counts().to_dict()


# ---- cohorts ----


def test_the_planted_cohort_of_simulated_brains_is_the_profiles_own(p, planted):
    assert planted.fingerprint == prepare_cohort(p).fingerprint
    assert len(list(Path(p.data).iterdir())) >= 1 and len(planted) == 40


def test_a_profile_of_other_brains_has_a_planted_cohort_on_its_atlas_too(p, planted):
    elsewhere = replace(p, brains="../a/folder/that/is/not/there")
    with pytest.raises(FileNotFoundError):
        prepare_cohort(replace(elsewhere, atlas="nor this"))
    assert planted_cohort(elsewhere).fingerprint == planted.fingerprint


def test_the_second_simulator_makes_as_many_brains_at_the_size_of_the_evaluation(p, planted):
    cohort = freeform_cohort(p)
    assert len(cohort) == p.n_brains and cohort.images.shape[1:] == (40, 56)
    assert set(cohort.factors) != set(planted.factors)
    assert cohort.fingerprint == freeform_cohort(p).fingerprint
    assert cohort.fingerprint != freeform_cohort(replace(p, cohort_seed=1)).fingerprint
    assert (cohort.metadata["artefact"] != "none").mean() == pytest.approx(0.15, abs=0.1)


@pytest.mark.parametrize("n", [2, 9, 28])
def test_fewer_training_brains_leave_the_others_as_they_are(planted, n):
    fewer = with_training_brains(planted, n)
    assert splits(fewer) == splits(planted) | {"train": n}
    for part in ("validation", "test"):
        assert np.array_equal(fewer.split(part).images, planted.split(part).images)
        assert fewer.split(part).metadata.equals(planted.split(part).metadata)
    assert np.array_equal(fewer.split("train").images, planted.split("train").images[:n])
    assert (fewer.fingerprint == planted.fingerprint) == (n == 28)


@pytest.mark.parametrize("n", [-1, 0, 1, 29])
def test_other_numbers_of_training_brains_are_refused_in_a_line(planted, n):
    with pytest.raises(ValueError, match=f"n={n} training brains of 28; give 2 to 28") as error:
        with_training_brains(planted, n)
    assert "\n" not in str(error.value)


def test_cohorts_vary_in_one_thing_and_their_own_value_is_among_them(p, planted):
    coarse = grid_cohort(p, planted)
    varied = varied_cohorts(p, coarse)
    assert {what: list(cohorts) for what, cohorts in varied.items()} == {
        "brains": [9, 28],  # 1000 are more than there are
        "share": [0.0, 0.15],
    }
    assert varied["brains"][28] is coarse and varied["share"][0.15] is coarse
    assert {n: splits(c)["train"] for n, c in varied["brains"].items()} == {9: 9, 28: 28}
    none = varied["share"][0.0]
    assert none.images.shape == coarse.images.shape == (40, 40, 56)
    assert (none.metadata["artefact"] == "none").all()
    assert (coarse.metadata["artefact"] != "none").any()
    for part in ("train", "test"):
        assert np.array_equal(clean_part(none, part).images, clean_part(coarse, part).images)
        assert clean_part(none, part).factors.equals(clean_part(coarse, part).factors)


def test_a_share_that_is_the_profiles_own_is_no_other_cohort(p, planted):
    same = replace(p, varied_artefact_shares=(0.15,), varied_brains=(28,))
    varied = varied_cohorts(same, grid_cohort(p, planted))
    assert [list(cohorts) for cohorts in varied.values()] == [[28], [0.15]]


# ---- models ----


# The grid has seed 0, the evaluation 1 as well.
def test_the_family_has_every_objective_and_a_fit_a_seed_of_grid_and_evaluation(p, planted, ahead):
    models = family_models(p, grid_cohort(p, planted))
    assert {name: len(fits) for name, fits in models.items()} == {
        "PCA": 1,
        "VAE": 2,
        "β-VAE": 2,
        "capacity VAE": 2,
        "MMD-VAE": 2,
    }
    codes = [fits[-1].encode(grid_cohort(p, planted).images[:3]) for fits in models.values()]
    assert all(z.shape == (3, 3) for z in codes)
    assert not np.allclose(codes[2], codes[3]) and not np.allclose(codes[2], codes[4])


def test_the_second_simulators_models_are_pca_and_the_evaluations_seeds(p, ahead):
    models = freeform_models(p, freeform_cohort(p))
    assert {name: len(fits) for name, fits in models.items()} == {"PCA": 1, "β-VAE": 2}


def test_a_varied_cohorts_models_are_pca_and_the_same_seeds(p, planted, ahead):
    fewer = with_training_brains(grid_cohort(p, planted), 9)
    models = varied_models(p, fewer)
    assert {name: len(fits) for name, fits in models.items()} == {"PCA": 1, "β-VAE": 2}


class Codes:
    """A model whose codes are given, and its images of no use."""

    def __init__(self, *scales):
        self.scales = scales

    def encode(self, images):
        return np.random.default_rng(0).normal(size=(len(images), len(self.scales))) * self.scales


def test_fits_that_tell_no_brains_apart_are_left_out():
    alive, dead = Codes(0, 2, 1), Codes(0, 1e-3, 0)
    images = np.zeros((30, 2, 2))
    assert living({"a": [dead, alive, alive], "b": [alive]}, images) == {
        "a": [alive, alive],
        "b": [alive],
    }
    one = Codes(1, 0, 0)
    assert living({"a": [one, alive]}, images) == {"a": [one, alive]}
    assert living({"a": [one, alive]}, images, least=2) == {"a": [alive]}
    for fits, least, said in (([dead, dead], 1, "1 or more"), ([one], 2, "2 or more")):
        with pytest.raises(ValueError, match=f"no fit of c, d has {said}") as error:
            living({"c": [dead], "b": [alive, dead], "d": fits}, images, least)
        assert "\n" not in str(error.value)


def test_a_model_that_was_told_paints_each_factor_as_the_brains_have_it(planted):
    model = told_model(planted)
    assert isinstance(model, LinearGaussian)
    train, test = clean_part(planted, "train"), clean_part(planted)
    codes = model.encode(test.images)
    assert codes.shape == test.factors.shape
    of_mean = np.square(test.images - train.images.mean(axis=0)).mean()
    assert np.square(model.decode(test.factors.to_numpy()) - test.images).mean() < of_mean


def test_what_is_read_of_the_grid_is_the_row_and_the_column_of_the_model(p):
    configs = grid_through(p)
    vaes = [(c.latent_dim, c.beta) for c in configs if c.kind == "beta_vae"]
    assert sorted(set(vaes)) == [(2, 3), (3, 1), (3, 3), (3, 5)] and len(vaes) == 4
    assert sorted(c.latent_dim for c in configs if c.kind == "pca") == [2, 3]
    assert set(configs) < set(study(p).configs)


def test_a_fit_that_failed_is_left_out_and_a_model_without_any_is_named(p, planted, tmp_path):
    q = replace(p, runs=str(tmp_path / "runs"), objectives=("mmd",), eval_seeds=(0, 1))
    coarse, base = grid_cohort(p, planted), q.model_config(steps=q.grid_steps)
    for seed, left in ((1, 1), (0, 0)):
        config = replace(base, objective="mmd", seed=seed)
        folder = Path(q.runs) / run_name(config, coarse.fingerprint)
        shutil.rmtree(folder, ignore_errors=True)
        save_run(folder, config, coarse.fingerprint, coarse.name, None, [], "step 3: not finite")
        if left:
            models = family_models(q, coarse)
            assert {name: len(fits) for name, fits in models.items()} == {
                "PCA": 1, "VAE": 2, "β-VAE": 2, "MMD-VAE": left,
            }  # fmt: skip
    with pytest.raises(ValueError, match="no fit of MMD-VAE succeeded; see above for why"):
        family_models(q, coarse)


# ---- the stage ----


def test_what_was_fitted_ahead_is_all_that_the_chapters_load(p, planted, ahead, recovered):
    coarse = grid_cohort(p, planted)
    with no_fits():
        family_models(p, grid_cohort(p, prepare_cohort(p)))
        evaluated_models(p, evaluation_cohort(p, planted))
        freeform_models(p, freeform_cohort(p))
        for cohorts in varied_cohorts(p, coarse).values():
            for cohort in cohorts.values():
                varied_models(p, cohort)
    assert fits_of(p) == ahead


def test_what_is_recovered_comes_by_parameter_model_and_value(p, planted, recovered):
    values = {
        what: {k: list(by_x) for k, by_x in by_model.items()}
        for what, by_model in recovered.items()
    }
    models = ("PCA", "β-VAE")
    assert values == {
        "beta": dict.fromkeys(models, [1.0, 3.0, 5.0]),
        "latent_dim": dict.fromkeys(models, [2, 3]),
        "brains": dict.fromkeys(models, [9, 28]),
        "share": dict.fromkeys(models, [0.0, 0.15]),
    }
    for what, by_model in recovered.items():
        for name, by_x in by_model.items():
            n = 2 if name == "β-VAE" and what in ("brains", "share") else 1
            assert {len(fits) for fits in by_x.values()} == {n}
            assert all(isinstance(f, Recovery) for fits in by_x.values() for f in fits)
            assert {f.factors for fits in by_x.values() for f in fits} == {tuple(planted.factors)}
    sizes = {x: len(fits[0].r2) for x, fits in recovered["latent_dim"]["β-VAE"].items()}
    assert sizes == {2: 2, 3: 3}
    # What is the same fit on the same brains is the same recovery.
    own = [
        recovered[what]["β-VAE"][x]
        for what, x in (("beta", 3.0), ("latent_dim", 3), ("brains", 28))
    ]
    for others in (*own[1:], recovered["share"]["β-VAE"][0.15]):
        for a, b in zip(own[0], others[:1], strict=True):
            assert np.array_equal(a.r2, b.r2) and np.array_equal(a.variance, b.variance)


def test_a_fit_that_tells_no_brains_apart_recovers_nothing(p, planted, ahead, monkeypatch):
    def none_at_two(codes):
        return np.full(codes.shape[1], codes.shape[1] != 2)

    few = replace(p, varied_brains=(), varied_artefact_shares=(), grid_betas=())
    monkeypatch.setattr("brainvae_core.interpretation.active_latents", none_at_two)
    found = planted_grid(few, planted, np.linspace(-7, 7, 9))["latent_dim"]["β-VAE"]
    assert [[f.r2.any() for f in fits] for fits in found.values()] == [[False], [True]]
    assert not any(f.recovered.any() for f in found[2])


# ---- its command ----


@pytest.fixture
def written(p, tmp_path, monkeypatch):
    """A profile's file, and its call."""

    def called(**changes):
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump({**TINY, "data": p.data, "runs": p.runs, **changes}))
        monkeypatch.setattr(sys, "argv", ["profile", str(path), "--only", "interpreted"])
        main()

    return called


def test_the_stage_has_a_command_which_fits_nothing_twice(p, written, ahead, capsys):
    with no_fits():
        written()
    assert "models in" in capsys.readouterr().out and fits_of(p) == ahead


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": ["nonsense"]}, "^error: .*nonsense"),
        ({"varied_brains": [1]}, "^error: n=1 training brains of 28"),
        ({"varied_artefact_shares": [1.5]}, "^error: artefact_share=1.5"),
        ({"n_brains": 1}, "^error: "),
    ],
)
def test_a_wrong_parameter_ends_the_command_with_one_line(written, ahead, changes, message):
    with pytest.raises(SystemExit, match=message) as error:
        written(**changes)
    assert "\n" not in str(error.value)


def test_an_objective_whose_fits_all_fail_ends_the_command_with_one_line(written, ahead, tmp_path):
    with pytest.raises(SystemExit) as error:
        written(
            objectives=["mmd"],
            mmd_weight=1e300,
            grid_seeds=[0],
            eval_seeds=[0],
            runs=str(tmp_path / "runs"),
        )
    assert str(error.value) == "error: no fit of MMD-VAE succeeded; see above for why"
