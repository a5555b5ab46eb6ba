"""Muon where it should be and Adam elsewhere, and growth that keeps the function."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from small_brains import fit_alone, sections
from torch import nn

from brainvae_core.models import BetaVAE, BetaVAEConfig
from brainvae_core.models.devices import Images
from brainvae_core.models.optimise import (
    INITIALISATIONS,
    MOMENTUM,
    Muon,
    Optimiser,
    grow,
    orthogonalised,
)

SHAPE = (20, 28)


def with_gradients(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        drawn = torch.randn(weight.shape, generator=generator)
        weight.grad = torch.empty_like(weight).copy_(drawn)  # laid out as backward() does
    return model


@given(
    rows=st.integers(1, 40), columns=st.integers(1, 40), n=st.integers(1, 3), seed=st.integers(0, 9)
)
def test_newton_schulz_keeps_the_singular_vectors_and_evens_the_values(rows, columns, n, seed):
    matrices = torch.randn((n, rows, columns), generator=torch.Generator().manual_seed(seed))
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalised(matrices)
    values = u.mT @ found @ vh.mT  # diagonal where the vectors are kept
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert (values - torch.diag_embed(diagonal)).abs().max() < 1e-3
    # The polynomial lifts what is above a hundredth of the norm into [0.65, 1.21] in five steps.
    large = s > 0.01 * matrices.norm(dim=(1, 2))[:, None]
    assert ((diagonal[large] > 0.65) & (diagonal[large] < 1.21)).all()


def test_a_gradient_of_zeros_moves_nothing_and_scale_does_not_matter():
    matrices = torch.randn((2, 5, 9))
    assert not orthogonalised(torch.zeros((2, 5, 9))).any()
    torch.testing.assert_close(orthogonalised(1e6 * matrices), orthogonalised(matrices))
    one_by_one = torch.cat([orthogonalised(one[None]) for one in matrices])
    torch.testing.assert_close(orthogonalised(matrices), one_by_one)


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (32, 32)])
def test_muon_is_pytorchs(size):
    ours, theirs = nn.Linear(*size[::-1]), nn.Linear(*size[::-1])
    theirs.load_state_dict(ours.state_dict())
    muon = Muon([ours], [ours], [0.02], rows=40)
    reference = torch.optim.Muon([theirs.weight], lr=0.02, momentum=MOMENTUM, weight_decay=0.0)
    start = ours.weight.detach().clone()
    for seed in range(4):
        gradient = torch.randn(size, generator=torch.Generator().manual_seed(seed))
        ours.weight.grad, theirs.weight.grad = gradient.clone(), gradient.clone()
        with torch.no_grad():
            muon.step(torch.ones(()))
        reference.step()
    moved, expected = ours.weight - start, theirs.weight - start
    assert (moved - expected).norm() < 0.02 * expected.norm()  # theirs is in bfloat16


# The most rows there may be, and those of each block: the largest divisor of 24 that is no larger.
@pytest.mark.parametrize(("rows", "of_block"), [(64, 24), (23, 12), (8, 8), (7, 6), (1, 1)])
def test_blocks_of_rows_are_matrices_of_their_own(rows, of_block):
    whole = nn.Linear(10, 24)
    blocks = [nn.Linear(10, of_block) for _ in range(24 // of_block)]
    gradient = torch.randn(24, 10)
    whole.weight.grad = gradient.clone()
    for layer, own, start in zip(
        blocks, gradient.split(of_block), whole.weight.split(of_block), strict=True
    ):
        layer.weight.data.copy_(start)
        layer.weight.grad = own.clone()
    with torch.no_grad():
        Muon([whole], [whole], [0.1], rows).step(torch.ones(()))
        Muon(blocks, blocks, [0.1] * len(blocks), rows=64).step(torch.ones(()))
    torch.testing.assert_close(whole.weight, torch.cat([layer.weight for layer in blocks]))


def test_a_transposed_convolution_is_the_convolution_of_its_swapped_weight():
    up, down = nn.ConvTranspose2d(6, 5, 4), nn.Conv2d(6, 5, 4)
    with torch.no_grad():
        down.weight.copy_(up.weight.transpose(0, 1))
    up.weight.grad = torch.randn_like(up.weight)
    down.weight.grad = up.weight.grad.transpose(0, 1).contiguous()
    with torch.no_grad():
        for layer in (up, down):
            Muon([layer], [layer], [0.1], rows=64).step(torch.ones(()))
    torch.testing.assert_close(up.weight.transpose(0, 1), down.weight)


def test_the_hidden_weights_are_muons_and_all_else_is_adams_biases_at_a_quarter():
    torch.manual_seed(0)
    model = with_gradients(BetaVAE(3, SHAPE))
    adams = copy.deepcopy(model)
    for weight, other in zip(model.parameters(), adams.parameters(), strict=True):
        other.grad = weight.grad.clone()
    ours = Optimiser(model, model, BetaVAEConfig(latent_dim=3))
    for group in ours.muon:
        for layer, of_muon in zip(group.layers, group.rates, strict=True):
            is_linear = isinstance(layer, nn.Linear)
            share = 0.5 if any(layer is other for other in model.encoder) else 1.0
            share *= 0.5 * max(1, group.rows / layer.in_features) ** 0.5 if is_linear else 1
            assert of_muon.item() == pytest.approx(0.02 * share)
    ours.step()
    of_each = [[w for w in adams.parameters() if (w.ndim == 1) == bias] for bias in (False, True)]
    groups = [{"params": of_each[0], "lr": 4e-3}, {"params": of_each[1], "lr": 1e-3}]
    torch.optim.Adam(groups, betas=(0.9, 0.99)).step()
    same = {
        name
        for (name, one), other in zip(model.named_parameters(), adams.parameters(), strict=True)
        if torch.allclose(one, other, rtol=1e-4, atol=1e-7)
    }
    names = [name for name, _ in model.named_parameters()]
    weights = [name for name in names if name.endswith("weight")]
    outer = {weights[0], weights[5], weights[6], weights[-1]}  # 3 + 3 layers and 3 + 4
    assert "encoder.11.weight" in outer and "decoder.0.weight" in outer
    assert same == outer | {name for name in names if name.endswith("bias")}


@pytest.mark.parametrize("optimiser", ["muon", "adam"])
def test_the_factor_multiplies_every_rate(optimiser):
    config = BetaVAEConfig(latent_dim=3, optimiser=optimiser)
    model = with_gradients(BetaVAE(3, SHAPE))
    moved = []
    for factor in (1.0, 0.25, 0.0):
        one = copy.deepcopy(model)
        for weight, other in zip(one.parameters(), model.parameters(), strict=True):
            weight.grad = other.grad.clone()
        ours = Optimiser(one, one, config)
        ours.factor.fill_(factor)
        ours.step()
        moved.append([p - q for p, q in zip(one.parameters(), model.parameters(), strict=True)])
    for whole, quarter, none in zip(*moved, strict=True):
        torch.testing.assert_close(quarter, whole / 4, rtol=1e-3, atol=1e-6)
        assert not none.any()


def test_a_copy_in_lower_precision_is_brought_up_to_date():
    config = BetaVAEConfig(latent_dim=3)
    model = BetaVAE(3, SHAPE)
    working = copy.deepcopy(model).to(torch.bfloat16)
    exact = with_gradients(copy.deepcopy(model), seed=1)
    with_gradients(working, seed=1)
    ours = Optimiser(model, working, config)
    ours.step()
    Optimiser(exact, exact, config).step()
    for one, copied, expected in zip(
        *(m.parameters() for m in (model, working, exact)), strict=True
    ):
        assert one.dtype == torch.float32 and copied.dtype == torch.bfloat16
        assert torch.equal(one.to(torch.bfloat16), copied)
        assert (one - expected).norm() < 0.02 * expected.norm()


def test_the_papers_optimiser_is_pytorchs_adam():
    ours = BetaVAE(3, SHAPE)
    other = copy.deepcopy(ours)
    paper = BetaVAEConfig(optimiser="adam", learning_rate=2e-4, adam_beta2=0.999)
    optimisers = Optimiser(ours, ours, paper), torch.optim.Adam(other.parameters(), lr=2e-4)
    for step in range(3):
        for model, optimiser in zip((ours, other), optimisers, strict=True):
            with_gradients(model, step)
            optimiser.step()
    for one, expected in zip(ours.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, expected)


# ---- growth: codes exactly, logits as their interpolation ----

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


@given(halvings=st.integers(2, 4), latent_dim=st.integers(1, 6), weights=st.integers(0, 99))
def test_codes_are_those_of_block_means_and_logits_their_interpolation(
    halvings, latent_dim, weights
):
    fine = sections(7, shape=(5 * 2**halvings, 7 * 2**halvings))
    model = fitted(fine, latent_dim, weights)
    grown, other = (grow(model, Images(fine, CPU), seed) for seed in (3, 4))
    assert grown.tensors().keys() == BetaVAE(latent_dim, fine.shape[1:]).tensors().keys()
    assert not torch.equal(grown.encoder[0].weight, other.encoder[0].weight)
    again = grow(model, Images(fine, CPU), 3)  # whatever else has been drawn meanwhile
    assert all(map(torch.equal, again.parameters(), grown.parameters()))
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


def test_steps_and_stages_that_cannot_be_are_refused_in_one_line():
    assert BetaVAEConfig(steps=" 10 × 14:3,20×28: 4 ").steps == ((10, 14, 3), (20, 28, 4))
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
