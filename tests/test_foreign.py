"""Models of other makers give the analysis what closed forms and this project's own models give."""

import numpy as np
import pytest
import torch
from refusals import refused
from sklearn import decomposition
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from brainvae_core.fields import projective_field, receptive_field, weight_range
from brainvae_core.models import PCA, FromSklearn, FromTorch

SHAPE, PIXELS = (6, 11), 66
C = np.linspace(-7, 7, 29)
MASKS = np.zeros((3, *SHAPE), dtype=bool)
MASKS[0, :3, :4] = MASKS[1, 3:, 2:7] = MASKS[2, :4, 7:] = True


def sections(n=30, seed=0):
    """Grey images that differ in three regions' brightness and six directions, all in [0, 1]."""
    rng = np.random.default_rng(seed)
    noise = np.random.default_rng(1).normal(size=(6, *SHAPE)) / 8
    maps = np.concatenate([MASKS * np.array([3, 2, 1.5])[:, None, None] / 6, noise])
    weights = rng.normal(size=(n, 9)) * 0.8 ** np.arange(9)
    return np.clip(0.5 + 0.3 * np.einsum("nr,rhw->nhw", weights, maps), 0, 1).astype(np.float32)


def flat(images):
    return images.reshape(len(images), -1)


def fitted(*steps, images=None):
    return make_pipeline(*steps).fit(flat(sections() if images is None else images))


class VAE(nn.Module):
    """What a package's model looks like: two methods, dropout, a mean and a log-variance."""

    def __init__(self, latent_dim=2):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(PIXELS, 2 * latent_dim))
        self.head = nn.Linear(latent_dim, PIXELS)

    def encode(self, x):
        return self.body(x).chunk(2, dim=1)

    def decode_image(self, z):
        return self.head(z).reshape(-1, 1, *SHAPE)


# ---- scikit-learn ----


def test_scikit_learns_pca_has_the_fields_of_our_own_up_to_signs():
    images = sections()
    ours = PCA.fit(images, 4)
    pca = decomposition.PCA(4, svd_solver="full").fit(flat(images))
    theirs = FromSklearn(pca, SHAPE, images=images)
    assert (theirs.latent_dim, theirs.image_shape) == (4, SHAPE)
    codes, other = ours.encode(images), theirs.encode(images)
    signs = np.sign((codes * other).sum(axis=0))
    np.testing.assert_allclose(other * signs, codes, atol=1e-3)
    np.testing.assert_allclose(theirs.reconstruct(images), ours.reconstruct(images), atol=1e-5)

    weights = weight_range(images, MASKS, n_weights=3)
    field, found = (receptive_field(m, images, MASKS, weights) for m in (ours, theirs))
    np.testing.assert_allclose(found.divergence, field.divergence, rtol=0.01, atol=1e-4)
    field, found = projective_field(ours, codes[0], C), projective_field(theirs, other[0], C)
    np.testing.assert_allclose(found.variance_all, field.variance_all, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize(
    "steps",
    [
        (StandardScaler(with_std=False), decomposition.FastICA(3, random_state=0, tol=0.1)),
        ("passthrough", decomposition.TruncatedSVD(3, random_state=0)),
        (decomposition.KernelPCA(3, kernel="rbf", fit_inverse_transform=True),),
    ],
    ids=lambda steps: type(steps[-1]).__name__,
)
def test_a_pipeline_answers_as_itself_and_goes_through_the_analysis(steps):
    images, pipeline = sections(), fitted(*steps)
    model = FromSklearn(pipeline, SHAPE)
    z = model.encode(images)
    np.testing.assert_allclose(z, pipeline.transform(flat(images)), atol=1e-5)
    decoded = pipeline.inverse_transform(pipeline.transform(flat(images)))
    np.testing.assert_allclose(model.decode(z), decoded.reshape(images.shape), atol=1e-5)
    np.testing.assert_array_equal(model.reconstruct(images), model.decode(z))
    assert z.dtype == model.decode(z.astype(np.float64)).dtype == np.float32
    assert not hasattr(model, "posterior")
    scaled = FromSklearn(pipeline, SHAPE, images=images)
    np.testing.assert_allclose(scaled.encode(images), z / z.std(axis=0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(scaled.reconstruct(images), model.reconstruct(images), atol=1e-5)
    field = receptive_field(scaled, images, MASKS, weight_range(images, MASKS))
    assert (field.divergence.max(axis=1) > 0.01).all()


def test_a_latent_that_is_alike_in_every_brain_is_not_blown_up():
    images = sections()
    images[:, :3] = np.float32(0.5)
    images[::2, :3] += np.float32(6e-8)  # what rounding makes of it
    halves = fitted(StandardScaler(with_std=False, with_mean=False), images=images)
    model = FromSklearn(halves, SHAPE, images=images)
    z = model.encode(images).reshape(-1, *SHAPE)
    np.testing.assert_array_equal(z[:, :3], images[:, :3])
    np.testing.assert_allclose(z[:, 3:].std(axis=0, ddof=1), 1, atol=1e-4)


def test_nothing_is_changed_in_place():
    images, kept = sections() - 0.5, sections() - 0.5
    z = np.ones((2, PIXELS), np.float32)
    in_place = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten())
    for model in (
        FromSklearn(StandardScaler(copy=False).fit(flat(sections())), SHAPE),
        FromTorch(in_place, nn.Unflatten(1, SHAPE), SHAPE),
        FromTorch(lambda x: x.mul_(2).flatten(1), lambda z: z.div_(2).reshape(-1, *SHAPE), SHAPE),
    ):
        model.encode(images), model.decode(z)
        np.testing.assert_array_equal(images, kept)
        np.testing.assert_array_equal(z, 1)


def test_what_a_scikit_learn_model_must_have_is_said_by_the_step():
    images, pca = flat(sections()), decomposition.PCA(2)
    without = make_pipeline(StandardScaler(), decomposition.FactorAnalysis(2)).fit(images)
    labelled = LogisticRegression().fit(images, np.arange(30) % 2)
    fewer = FunctionTransformer(inverse_func=lambda z: z[:, :-1])
    one_row = FunctionTransformer(lambda x: x.mean(axis=1))
    cases = [
        ("^factoranalysis has no inverse_transform; PCA, Fast", without),
        ("^LogisticRegression has no inverse_transform", labelled),
        ("not fitted yet", make_pipeline(StandardScaler(), decomposition.PCA(2))),
        (r"decoder answered a ndarray \(2, 65\); .* \(2, 66\)", fewer),
        (r"ndarray \(2,\); it must answer \(2, latent_dim\)", one_row),
    ]
    refused([(message, FromSklearn, estimator, SHAPE) for message, estimator in cases])
    with pytest.raises(ValueError, match="1 images have no standard deviation; give 2 or more"):
        FromSklearn(pca.fit(images), SHAPE, images=sections()[:1])


# ---- torch ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_modules_have_the_answers_of_their_weights(dtype):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 3)).to(dtype)
    decoder = nn.Sequential(nn.Linear(3, PIXELS), nn.Unflatten(1, SHAPE)).to(dtype)
    (a, b), (c, d) = ([w.detach().numpy() for w in net.parameters()] for net in (encoder, decoder))
    images, model = sections(150), FromTorch(encoder, decoder, SHAPE)  # more than two batches
    z = model.encode(images)
    np.testing.assert_allclose(z, flat(images) @ a.T + b, atol=1e-5)
    np.testing.assert_allclose(flat(model.decode(z)), z @ c.T + d, atol=1e-5)
    np.testing.assert_array_equal(model.reconstruct(images), model.decode(z))
    assert z.dtype == model.decode(z.astype(np.float64)).dtype == np.float32
    assert not hasattr(model, "posterior") and encoder[1].weight.dtype == dtype


def test_methods_of_one_module_with_a_posterior():
    torch.manual_seed(0)
    vae, images = VAE(), sections()
    model = FromTorch(vae.encode, vae.decode_image, SHAPE)
    mean, std = model.posterior(images)
    weight, bias = (t.detach().numpy() for t in (vae.body[2].weight, vae.body[2].bias))
    expected = flat(images) @ weight.T + bias
    np.testing.assert_allclose(mean, expected[:, :2], atol=1e-5)
    np.testing.assert_allclose(std, np.exp(expected[:, 2:] / 2), rtol=1e-4)
    np.testing.assert_array_equal(model.encode(images), mean)
    scaled = FromTorch(vae.encode, vae.decode_image, SHAPE, images=images).posterior(images)
    for found, before in zip(scaled, (mean, std), strict=True):
        np.testing.assert_allclose(found, before / mean.std(axis=0, ddof=1), rtol=1e-5)


def test_dropout_is_off_and_every_mode_is_as_before_after_an_error_too():
    vae, images = VAE(), sections()
    vae.train()
    vae.head.eval()  # as where a part is frozen
    model = FromTorch(vae.encode, vae.decode_image, SHAPE)
    np.testing.assert_array_equal(model.encode(images), model.encode(images))
    assert [vae.training, vae.body[1].training, vae.head.training] == [True, True, False]
    assert all(p.requires_grad and p.grad is None for p in vae.parameters())
    assert model.encode(images[:0]).shape == (0, 2)
    assert model.decode(np.zeros((0, 2))).shape == (0, *SHAPE)
    del vae.body[2].bias
    with pytest.raises(AttributeError):
        model.encode(images)
    assert vae.training and not vae.head.training


def test_what_answers_wrongly_is_refused_when_it_is_wrapped():
    cases = [
        (r"encoder answered a Tensor \(2, 1, 6, 11\); .* \(2, latent_dim\)", lambda x: x),
        (r"encoder answered a dict \(\); it must answer \(2, latent_dim\)", lambda x: {"mean": x}),
        (r"Tensor \([12], 2\); .*\([12], 66\)", lambda x: (x.flatten(1), x.flatten(1)[:, :2])),
    ]
    decoded = lambda z: z[:, :1, None].expand(-1, *SHAPE)  # noqa: E731
    refused([(message, FromTorch, answer, decoded, SHAPE) for message, answer in cases])
    cases = [
        (r"decoder answered a Tensor \(2, 66\); it must answer \(2, 6, 11\)", lambda z: z),
        (r"decoder answered a Tensor \(2, 11, 6\)", lambda z: torch.zeros(len(z), 1, 11, 6)),
        (r"decoder answered a Tensor \(1, 6, 11\)", lambda z: torch.zeros(1, *SHAPE)),
        (r"decoder answered a list \(\)", lambda z: [z]),
    ]
    refused([(message, FromTorch, nn.Flatten(), answer, SHAPE) for message, answer in cases])
