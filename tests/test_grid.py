"""The β × L grid as a list that can be printed and counted."""

import numpy as np
import pytest

from brainvae_core.models import BetaVAEConfig, PCAConfig, fit_all, grid, grid_configs

BASE = BetaVAEConfig(steps=7, seed=3, sigma=0.1, likelihood="bernoulli")


def test_the_grid_is_a_product_with_pca_at_every_l():
    configs = grid_configs(BASE, [1, 3, 10], [2, 4])
    assert configs[:2] == [PCAConfig(2), PCAConfig(4)]
    assert [(c.latent_dim, c.beta) for c in configs[2:]] == [
        (2, 1),
        (2, 3),
        (2, 10),
        (4, 1),
        (4, 3),
        (4, 10),
    ]
    assert all(
        (c.steps, c.seed, c.sigma, c.likelihood) == (7, 3, 0.1, "bernoulli") for c in configs[2:]
    )


def test_the_papers_grid_has_340_points():
    configs = grid_configs(BASE, range(1, 21), range(4, 21))
    assert sum(c.kind == "beta_vae" for c in configs) == 20 * 17 == 340
    assert sum(c.kind == "pca" for c in configs) == 17
    assert len(set(configs)) == 357


def test_an_axis_may_be_an_array():
    configs = grid_configs(BASE, np.array([0.5, 2]), np.arange(2, 5))
    assert len(configs) == 3 + 6
    assert configs == grid_configs(BASE, [0.5, 2.0], [2, 3, 4])


@pytest.mark.parametrize(
    ("betas", "latent_dims", "message"),
    [
        ([1, 3, 1], [2], r"betas=\[1, 3, 1\] must list at least one value, each once"),
        ([1, 1.0], [2], "betas="),
        ([1], [4, 2, 4], r"latent_dims=\[4, 2, 4\]"),
        ([], [2], r"betas=\[\]"),
        ([1], [], r"latent_dims=\[\]"),
    ],
)
def test_an_empty_axis_or_a_value_twice_is_refused(betas, latent_dims, message):
    with pytest.raises(ValueError, match=message):
        grid_configs(BASE, betas, latent_dims)


def test_a_point_out_of_range_is_refused_before_anything_is_fitted():
    with pytest.raises(ValueError, match="beta=-1.0 must be finite"):
        grid_configs(BASE, [1, -1], [2])


def test_everything_is_fitted_in_the_order_given(monkeypatch):
    asked = []

    def stub(cohort, config, runs, device):
        asked.append((cohort, config, runs, device))
        return config.label

    monkeypatch.setattr(grid, "fit", stub)
    configs = grid_configs(BASE, [3, 1], [4, 2])
    done = fit_all("brains", iter(configs), "somewhere", "cpu")
    assert done == [c.label for c in configs]
    assert asked == [("brains", c, "somewhere", "cpu") for c in configs]
