"""The β-VAE: the authors' layers, and NumPy in and out of them."""

import numpy as np
import pytest
import torch
from refusals import refused

from benchmarks.peer import PlainVAE
from brainvae_core.models import BetaVAE

SMALL = (20, 28)


def sections(n, shape=SMALL, seed=0):
    return np.random.default_rng(seed).random((n, *shape), dtype=np.float32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return BetaVAE(3, SMALL)


@pytest.mark.promise(
    "the network is the authors': its weights load, its outputs and gradients are theirs"
)
def test_the_authors_state_dict_loads_into_the_network_of_the_papers_size():
    """Layers as github.com/nerdslab/brainsynth numbers them, one Sequential on each side."""
    hidden, image = [(32, 32, 4, 4)] * 6, [(32, 1, 4, 4)]
    sides = {
        "encoder": ((*range(0, 14, 2), 15, 17, 19), [(256, 768), (256, 256), (16, 256)]),
        "decoder": ((0, 2, 4, *range(7, 21, 2)), [(256, 8), (256, 256), (768, 256)]),
    }
    theirs = {}
    for side, (numbers, joined) in sides.items():
        shapes = [*image, *hidden, *joined] if side == "encoder" else [*joined, *hidden, *image]
        for i, shape in zip(numbers, shapes, strict=True):
            theirs[f"{side}.{i}.weight"] = torch.randn(shape)
            n_out = shape[1] if side == "decoder" and len(shape) == 4 else shape[0]
            theirs[f"{side}.{i}.bias"] = torch.randn(n_out)
    assert sum(weight.numel() for weight in theirs.values()) == 730_289
    assert BetaVAE(8, (80, 112)).n_parameters == 730_289 - 2 * 2 * (32 * 32 * 16 + 32)
    model = BetaVAE(8, (320, 448))
    lacks, odd = model.load_state_dict(theirs, strict=False)
    assert not odd and set(lacks) == {"input_mean", "input_scale", "output_offset", "log_sigma"}
    for name, array in theirs.items():
        assert np.array_equal(model.tensors()[name], array), name
    sizes = [(160, 224), (80, 112), (40, 56), (20, 28), (10, 14), (5, 7), (4, 6)]
    assert model.layer_shapes() == [
        ("image", (1, 320, 448)),
        *[("convolution", (32, *size)) for size in sizes],
        *[("fully connected", (256,))] * 2,
        ("mean and log-variance", (16,)),
    ]


def negative_elbo(network, images, noise, beta=3.0, sigma=0.05):
    """Nats per image but for a constant."""
    mean, logvar = network.posterior_parameters(images)
    logits = network.logits(mean + noise * (0.5 * logvar).exp())
    misfit = (torch.sigmoid(logits) - images).square().sum() / (2 * sigma**2)
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum()
    return (misfit + beta * kl) / len(images)


@pytest.mark.promise(
    "the network is the authors': its weights load, its outputs and gradients are theirs"
)
@pytest.mark.parametrize(("shape", "latent_dim", "n"), [((320, 448), 5, 1), ((40, 56), 3, 7)])
def test_outputs_and_every_gradient_are_those_of_the_plain_network(shape, latent_dim, n):
    torch.manual_seed(1)
    ours, plain = BetaVAE(latent_dim, shape), PlainVAE(latent_dim, shape)
    pairs = list(zip(ours.parameters(), plain.parameters(), strict=True))
    with torch.no_grad():
        for mine, theirs in pairs:
            if mine.ndim == 1:  # biases start at zero, where a lost one would not show
                mine.uniform_(-0.1, 0.1)
            theirs.copy_(mine)
    images = torch.from_numpy(sections(n, shape))
    noise = torch.randn((n, latent_dim))
    for given, expected in (
        (ours.posterior_parameters(images)[0], plain.posterior_parameters(images)[0]),
        (ours.posterior_parameters(images)[1], plain.posterior_parameters(images)[1]),
        (ours.logits(noise), plain.logits(noise)),
    ):
        assert given.shape == expected.shape
        assert (given - expected).abs().max() < 1e-5 * expected.abs().max()
    losses = [negative_elbo(network, images, noise) for network in (ours, plain)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=0)
    for loss in losses:
        loss.backward()
    for mine, theirs in pairs:
        assert mine.shape == theirs.shape and theirs.grad.abs().max() > 0
        assert (mine.grad - theirs.grad).abs().max() < 1e-4 * theirs.grad.abs().max()


def test_arrays_in_and_out_are_float32_of_the_named_shapes(model):
    images = sections(5)
    mean, std = model.posterior(images.astype(np.float64))
    z, decoded, reconstructed = model.encode(images), model.decode(mean), model.reconstruct(images)
    assert mean.shape == std.shape == z.shape == (5, 3)
    assert decoded.shape == reconstructed.shape == (5, *SMALL)
    assert {a.dtype for a in (mean, std, z, decoded, reconstructed)} == {np.dtype(np.float32)}
    with torch.no_grad():
        expected, logvar = model.posterior_parameters(torch.from_numpy(images))
    np.testing.assert_allclose(std**2, logvar.exp(), rtol=1e-5)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    assert np.array_equal(z, mean) and np.array_equal(reconstructed, model.decode(z))
    far = model.decode(np.random.default_rng(1).normal(0, 1000, (7, 3)))
    assert np.isfinite(far).all() and far.min() >= 0 and far.max() <= 1


def test_the_surroundings_centre_what_enters_and_offset_what_leaves():
    torch.manual_seed(0)
    bare, dressed = BetaVAE(3, SMALL), BetaVAE(3, SMALL)
    dressed.load_state_dict(bare.state_dict())
    mean, offset = sections(2, seed=3)
    dressed.input_mean.copy_(torch.from_numpy(mean))
    dressed.input_scale.fill_(2)
    dressed.output_offset.copy_(torch.from_numpy(offset))
    images = sections(4)
    np.testing.assert_allclose(
        dressed.encode(images), bare.encode((images - mean) / 2), rtol=1e-4, atol=1e-5
    )
    z = np.float32([[0.3, -1, 2]])
    decoded = bare.decode(z)
    odds = decoded / (1 - decoded) * np.exp(offset)
    np.testing.assert_allclose(dressed.decode(z), odds / (1 + odds), atol=1e-6)


def test_sizes_images_and_codes_that_do_not_fit_are_refused_in_one_line(model):
    allowed = "does not fit .*320×448, 160×224, 80×112, 40×56, 20×28, 10×14 do"
    spoiled = sections(4)
    spoiled[2, 5, 6] = np.inf
    cases = [
        *[(allowed, BetaVAE, 8, shape) for shape in ((320, 456), (448, 320), (5, 7), (640, 896))],
        ("latent_dim=0", BetaVAE, 0, SMALL),
        (r"\(4, 28, 20\); this model takes \(n, 20, 28\)", model.encode, sections(4, (28, 20))),
        (r"shape \(20, 28\); this model takes \(n, 20, 28\)", model.posterior, sections(4)[0]),
        ("image 2 of 4 has a NaN or infinite pixel", model.reconstruct, spoiled),
        ("image 0 of 4 has values from .* takes greys", model.encode, 255 * sections(4)),
        (r"codes have shape \(5, 4\); this model takes \(n, 3\)", model.decode, np.zeros((5, 4))),
        ("codes hold a NaN", model.decode, np.full((2, 3), np.nan)),
    ]
    refused(cases)
