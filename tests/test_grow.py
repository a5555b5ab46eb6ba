"""Growth keeps the function: codes exactly, logits as their interpolation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from refusals import refused
from small_brains import fit_alone, sections

from brainvae_core.models import BetaVAE, BetaVAEConfig
from brainvae_core.models.config import Stage
from brainvae_core.models.devices import Images
from brainvae_core.models.optimise import INITIALISATIONS, grow

CPU = torch.device("cpu")


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


@pytest.mark.parametrize(("halvings", "latent_dim"), [(2, 1), (3, 4)])
def test_codes_are_those_of_block_means_and_logits_their_interpolation(halvings, latent_dim):
    fine = sections(7, shape=(5 * 2**halvings, 7 * 2**halvings))
    model = fitted(fine, latent_dim, 3)
    grown, other = (grow(model, Images(fine, CPU), seed) for seed in (3, 4))
    assert grown.tensors().keys() == BetaVAE(latent_dim, fine.shape[1:]).tensors().keys()
    assert not torch.equal(grown.encoder[0].weight, other.encoder[0].weight)
    of_both = zip(grown.posterior(fine), model.posterior(block_mean(fine)), strict=True)
    for found, expected in of_both:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    z = torch.randn((5, latent_dim), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, coarse = (m.logits(z) - m.output_offset for m in (grown, model))
    tolerance = 1e-4 * coarse.abs().max().item()
    torch.testing.assert_close(logits, interpolated(coarse), rtol=1e-3, atol=tolerance)
    mean = fine.mean(0, dtype=np.float64)
    np.testing.assert_allclose(grown.input_mean, mean, rtol=1e-5)
    odds = np.log(mean.clip(1e-3) / (1 - mean.clip(1e-3)))
    np.testing.assert_allclose(grown.output_offset, odds, atol=1e-4)


def test_new_channels_are_alive_and_learn_from_the_first_step():
    fine = sections(16, shape=(40, 56))
    grown = grow(fitted(fine, 4, 0), Images(fine, CPU), 0)
    first, second = grown.encoder[0], grown.encoder[2]
    scaled = (torch.from_numpy(fine) - grown.input_mean)[:, None] / grown.input_scale
    assert (torch.relu(first(scaled)).amax((0, 2, 3)) > 0).all()
    assert not second.weight[:, 2:].any()
    mean, _ = grown.posterior_parameters(torch.from_numpy(fine))
    (torch.sigmoid(grown.logits(mean)) - torch.from_numpy(fine)).square().sum().backward()
    assert (second.weight.grad[:, 2:].abs().amax((0, 2, 3)) > 0).all()
    assert (grown.decoder[-1].weight.grad[2:].abs().amax((1, 2, 3)) > 0).all()


def test_stages_are_read_from_text_and_triples():
    for steps in ("10x14: 3, 20x28: 4", " 10 × 14:3,20×28: 4 ", [[10, 14, 3], [20, 28, 4]]):
        config = BetaVAEConfig(steps=steps)
        assert config.steps == ((10, 14, 3), (20, 28, 4)) and config.n_steps == 7
    first, second = config.stages((20, 28))
    assert (first.shape, first.first, first.last) == ((10, 14), 0, 3)
    assert (second.shape, second.first, second.last) == ((20, 28), 3, 7)
    assert BetaVAEConfig(steps=7).stages((20, 28)) == [Stage((20, 28), 0, 7)]


def test_steps_and_stages_that_cannot_be_are_refused_in_one_line():
    none, images = "must be a whole positive number, or stages such as", sections(20)
    cases = [
        ("320x448 is not twice 80x112; every stage must be", "80x112: 5, 320x448: 5"),
        ("40x56 is not twice 80x112", "80x112: 5, 40x56: 5"),
        *[(none, steps) for steps in ("80x112: 0", "80x112", (), ((80, 112, 1.5),), None, 10.5)],
    ]
    refused([(message, lambda s: BetaVAEConfig(steps=s), steps) for message, steps in cases])
    elsewhere = BetaVAEConfig(steps="10x14: 3", batch_size=4)
    message = "end at 10×14 and the images are 20×28; the last stage"
    refused([(message, fit_alone, elsewhere, images, images)])
    for steps in ("5x7: 1, 10x14: 1", "6x8: 1, 12x16: 1", "320x448: 1, 640x896: 1"):
        config = BetaVAEConfig(steps=steps)
        refused([("does not fit the network; 320×448", config.stages, config.steps[-1][:2])])
    with pytest.raises(ValueError, match="initialisation='authors' cannot grow"):
        BetaVAEConfig(steps="10x14: 3, 20x28: 4", initialisation="authors")
