"""Growth keeps the function: codes exactly, logits as their interpolation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from brainvae_core.models import BetaVAE, BetaVAEConfig
from brainvae_core.models.grow import INITIALISATIONS, grow
from brainvae_core.models.images import Images
from brainvae_core.models.schedule import Stage

CPU = torch.device("cpu")


def sections(n, halvings, seed=0):
    shape = (5 * 2**halvings, 7 * 2**halvings)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    rng = np.random.default_rng(seed)
    brain = np.exp(-2 * (x**2 + y**2))
    images = (
        0.5
        * brain
        * (1 + 0.2 * rng.normal(size=(n, 3)) @ np.stack([x, y, 1 + 0 * x]).reshape(3, -1)).reshape(
            n, *shape
        )
    )
    return np.clip(images + rng.normal(0, 0.02, images.shape), 0, 1).astype(np.float32)


def block_mean(images):
    n, height, width = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2).mean((2, 4))


def fitted(fine, latent_dim, seed):
    """A model of the block means with weights that no symmetry could hide a mistake in."""
    coarse = block_mean(fine)
    model = BetaVAE(latent_dim, coarse.shape[1:])
    INITIALISATIONS["data"](model, Images(coarse, CPU), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            scale = 0.05 * weight.abs().mean() + 0.01  # some biases are zero
            weight.add_(scale * torch.randn(weight.shape, generator=generator))
    return model


def interpolated(logits):
    """Bilinear between pixels' centres, towards zeros beyond the border."""
    wide = F.pad(logits[:, None], (1, 1, 1, 1))
    return F.interpolate(wide, scale_factor=2, mode="bilinear")[:, 0, 2:-2, 2:-2]


@settings(deadline=None, max_examples=12)
@given(halvings=st.integers(2, 5), latent_dim=st.integers(1, 9), seed=st.integers(0, 5))
def test_codes_are_those_of_block_means_and_logits_their_interpolation(halvings, latent_dim, seed):
    fine = sections(7, halvings, seed)
    model = fitted(fine, latent_dim, seed)
    grown = grow(model, Images(fine, CPU), seed)
    for given_, expected in zip(
        grown.posterior(fine), model.posterior(block_mean(fine)), strict=True
    ):
        np.testing.assert_allclose(given_, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    z = torch.randn((5, latent_dim), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        fine_logits, coarse_logits = (m.logits(z) - m.output_offset for m in (grown, model))
    torch.testing.assert_close(
        fine_logits,
        interpolated(coarse_logits),
        rtol=1e-3,
        atol=1e-4 * coarse_logits.abs().max().item(),
    )
    assert grown.n_parameters - model.n_parameters == 2 * (32 * 32 * 16 + 32)


def test_the_detail_of_the_mean_image_comes_with_the_offset():
    fine = sections(20, 3)
    grown = grow(fitted(fine, 4, 0), Images(fine, CPU), 0)
    mean = fine.mean(0, dtype=np.float64)
    np.testing.assert_allclose(grown.input_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(
        grown.output_offset, np.log(mean.clip(1e-3) / (1 - mean.clip(1e-3))), atol=1e-4
    )


def test_growing_twice_is_at_the_authors_network():
    fine = sections(4, 6)
    small = fitted(block_mean(fine), 8, 1)
    grown = grow(grow(small, Images(block_mean(fine), CPU), 0), Images(fine, CPU), 0)
    assert grown.n_parameters == 730_289
    assert grown.tensors().keys() == BetaVAE(8, (320, 448)).tensors().keys()
    codes = small.encode(block_mean(block_mean(fine)))
    np.testing.assert_allclose(
        grown.encode(fine), codes, rtol=1e-3, atol=1e-4 * np.abs(codes).max()
    )


def test_new_channels_are_alive_and_learn_from_the_first_step():
    fine = sections(16, 3)
    grown = grow(fitted(fine, 4, 0), Images(fine, CPU), 0)
    first, second = grown.encoder[0], grown.encoder[2]
    with torch.no_grad():
        seen = torch.relu(
            first((torch.from_numpy(fine) - grown.input_mean)[:, None] / grown.input_scale)
        )
    assert (seen.amax((0, 2, 3)) > 0).all()
    assert not second.weight[:, 2:].any()
    mean, logvar = grown.posterior_parameters(torch.from_numpy(fine))
    loss = (torch.sigmoid(grown.logits(mean)) - torch.from_numpy(fine)).square().sum()
    loss.backward()
    assert (second.weight.grad[:, 2:].abs().amax((0, 2, 3)) > 0).all()
    assert (grown.decoder[-1].weight.grad[2:].abs().amax((1, 2, 3)) > 0).all()


def test_growth_follows_from_its_seed():
    fine = sections(9, 2)
    model = fitted(fine, 3, 0)
    one, same, other = (grow(model, Images(fine, CPU), seed).tensors() for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("80x112: 5, 320x448: 5", "320x448 is not twice 80x112; every stage must be twice"),
        ("80x112: 5, 40x56: 5", "40x56 is not twice 80x112"),
        ("80x112: 0", "must be a whole positive number, or stages such as"),
        ("80x112", "must be a whole positive number, or stages such as"),
        ("80x112: many", "must be a whole positive number, or stages such as"),
        ("", "must be a whole positive number"),
        ((), "must be a whole positive number"),
        (((80, 112, 1.5),), "must be a whole positive number"),
        (True and 2.5, "must be a whole positive number"),
        (-3, "must be a whole positive number"),
        (None, "must be a whole positive number"),
    ],
)
def test_steps_that_are_none_are_refused_in_one_line(steps, message):
    with pytest.raises(ValueError, match=message) as error:
        BetaVAEConfig(steps=steps)
    assert "\n" not in str(error.value)


def test_stages_are_read_from_text_mappings_and_triples():
    expected = ((10, 14, 3), (20, 28, 4))
    for steps in (
        "10x14: 3, 20x28: 4",
        " 10 × 14:3,20×28: 4 ",
        {"10x14": 3, "20x28": 4},
        [[10, 14, 3], [20, 28, 4]],
    ):
        config = BetaVAEConfig(steps=steps)
        assert config.steps == expected and config.n_steps == 7
    first, second = config.stages((20, 28))
    assert (first.shape, first.first, first.last) == ((10, 14), 0, 3)
    assert (second.shape, second.first, second.last) == ((20, 28), 3, 7)
    assert BetaVAEConfig(steps=7).stages((20, 28)) == [Stage((20, 28), 0, 7)]


def test_stages_end_at_the_images_size_and_fit_the_network():
    images = sections(20, 2)
    with pytest.raises(ValueError, match="end at 10×14 and the images are 20×28; the last stage"):
        BetaVAEConfig(steps="10x14: 3", batch_size=4).fit(images, images, device="cpu")
    with pytest.raises(ValueError, match="5×7 does not fit the network"):
        BetaVAEConfig(steps="5x7: 2, 10x14: 3, 20x28: 4", batch_size=4).fit(
            images, images, device="cpu"
        )
    for steps in ("6x8: 1, 12x16: 1", "320x448: 1, 640x896: 1"):  # before any is fitted
        config = BetaVAEConfig(steps=steps)
        with pytest.raises(ValueError, match="does not fit the network; 320×448, .* do"):
            config.stages(config.steps[-1][:2])
    with pytest.raises(ValueError, match="initialisation='authors' cannot grow"):
        BetaVAEConfig(steps="10x14: 3, 20x28: 4", initialisation="authors")
