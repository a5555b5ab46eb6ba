"""Models of other makers give the analysis what closed forms and this project's own models give."""

import numpy as np
import pytest
import torch
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


class Linear:
    """A linear encoder and decoder with known weights, as modules."""

    def __init__(self, latent_dim=3, dtype=torch.float32, seed=0):
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, latent_dim)).to(dtype)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, PIXELS), nn.Unflatten(1, SHAPE)).to(
            dtype
        )

    def codes(self, images):
        layer = self.encoder[1]
        return flat(images) @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()

    def images(self, z):
        layer = self.decoder[0]
        answer = z @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        return answer.reshape(-1, *SHAPE)


class VAE(nn.Module):
    """What a package's model looks like: two methods, dropout, a mean and a log-variance."""

    def __init__(self, latent_dim=2):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(PIXELS, 2 * latent_dim))
        self.head = nn.Linear(latent_dim, PIXELS)

    def encode(self, x):
        return self.body(x).chunk(2, dim=1)

    def paint(self, z):
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
    np.testing.assert_allclose(found.effect_size * signs, field.effect_size, rtol=0.01, atol=1e-3)

    field, found = projective_field(ours, codes[0], C), projective_field(theirs, other[0], C)
    np.testing.assert_allclose(found.variance_all, field.variance_all, rtol=0.01, atol=1e-6)
    turned = np.where(signs[:, None, None, None] > 0, found.mean, found.mean[:, ::-1])
    np.testing.assert_allclose(turned, field.mean, atol=1e-3)


@pytest.mark.parametrize(
    "steps",
    [
        (StandardScaler(), decomposition.TruncatedSVD(3, random_state=0)),
        (StandardScaler(with_std=False), decomposition.FastICA(3, random_state=0, tol=0.1)),
        ("passthrough", decomposition.NMF(3, random_state=0, max_iter=2000)),
        (
            FunctionTransformer(np.sqrt, np.square, check_inverse=False),
            decomposition.IncrementalPCA(3),
        ),
        (decomposition.KernelPCA(3, kernel="rbf", fit_inverse_transform=True),),
    ],
    ids=lambda steps: type(steps[-1]).__name__,
)
def test_a_pipeline_answers_as_itself_and_goes_through_the_analysis(steps):
    images, pipeline = sections(), fitted(*steps)
    model = FromSklearn(pipeline, SHAPE)
    z = model.encode(images)
    np.testing.assert_allclose(z, pipeline.transform(flat(images)), atol=1e-5)
    painted = pipeline.inverse_transform(pipeline.transform(flat(images)))
    np.testing.assert_allclose(model.decode(z), painted.reshape(images.shape), atol=1e-5)
    np.testing.assert_array_equal(model.reconstruct(images), model.decode(z))
    assert z.dtype == model.decode(z.astype(np.float64)).dtype == np.float32
    assert not hasattr(model, "posterior")

    scaled = FromSklearn(pipeline, SHAPE, images=images)
    field = receptive_field(scaled, images, MASKS, weight_range(images, MASKS))
    assert (field.divergence.max(axis=1) > 0.01).all()
    assert (
        projective_field(scaled, scaled.encode(images)[0], C).variance_all.max((1, 2)) > 0
    ).all()


def test_images_give_codes_unit_variance_and_images_stay_as_they_are():
    images, pipeline = sections(), fitted(StandardScaler(), decomposition.PCA(3, random_state=0))
    own, scaled = FromSklearn(pipeline, SHAPE), FromSklearn(pipeline, SHAPE, images=images)
    z = own.encode(images)
    np.testing.assert_allclose(scaled.encode(images), z / z.std(axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(scaled.encode(images).std(axis=0, ddof=1), 1, atol=1e-5)
    np.testing.assert_allclose(scaled.reconstruct(images), own.reconstruct(images), atol=1e-5)


def test_a_latent_that_is_alike_in_every_brain_is_not_blown_up():
    images = sections()
    images[:, :3] = np.float32(0.5)
    images[::2, :3] += np.float32(6e-8)  # what rounding makes of it
    halves = fitted(StandardScaler(with_std=False, with_mean=False), images=images)
    model = FromSklearn(halves, SHAPE, images=images)
    z = model.encode(images).reshape(-1, *SHAPE)
    np.testing.assert_array_equal(z[:, :3], images[:, :3])
    np.testing.assert_allclose(z[:, 3:].std(axis=0, ddof=1), 1, atol=1e-4)


def test_an_estimator_that_works_in_place_leaves_images_and_codes_alone():
    scaler = StandardScaler(copy=False).fit(flat(sections()))
    model, images = FromSklearn(scaler, SHAPE), sections()
    z = model.encode(images)
    kept = z.copy()
    model.decode(z)
    np.testing.assert_array_equal(images, sections())
    np.testing.assert_array_equal(z, kept)


def test_what_a_scikit_learn_model_must_have_is_said_by_the_step():
    images = flat(sections())
    pipeline = make_pipeline(StandardScaler(), decomposition.FactorAnalysis(2)).fit(images)
    with pytest.raises(ValueError, match="^factoranalysis has no inverse_transform; PCA, Fast"):
        FromSklearn(pipeline, SHAPE)
    labels = np.arange(30) % 2
    with pytest.raises(ValueError, match="^LogisticRegression has no inverse_transform"):
        FromSklearn(LogisticRegression().fit(images, labels), SHAPE)
    with pytest.raises(ValueError, match="not fitted yet"):
        FromSklearn(make_pipeline(StandardScaler(), decomposition.PCA(2)), SHAPE)
    with pytest.raises(ValueError, match="not fitted yet"):
        FromSklearn(decomposition.NMF(2), SHAPE)
    with pytest.raises(ValueError, match="fit_inverse_transform"):
        FromSklearn(decomposition.KernelPCA(2).fit(images), SHAPE)
    with pytest.raises(ValueError, match="expecting 66 features"):
        FromSklearn(decomposition.PCA(2).fit(images), (6, 12))


def test_a_wrong_number_of_columns_is_refused_when_it_is_wrapped():
    fewer = FunctionTransformer(inverse_func=lambda z: z[:, :-1])
    with pytest.raises(ValueError, match=r"decoder answered a ndarray \(2, 65\); .* \(2, 66\)"):
        FromSklearn(fewer, SHAPE)
    one_row = FunctionTransformer(lambda x: x.mean(axis=1))
    with pytest.raises(ValueError, match=r"ndarray \(2,\); it must answer \(2, latent_dim\)"):
        FromSklearn(one_row, SHAPE)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_images_have_no_standard_deviation(n):
    with pytest.raises(ValueError, match=f"{n} images have no standard deviation; give 2 or more"):
        FromSklearn(fitted(decomposition.PCA(2)), SHAPE, images=sections()[:n])


# ---- torch ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_modules_have_the_answers_of_their_weights(dtype):
    images, linear = sections(150), Linear(dtype=dtype)  # more than two batches
    model = FromTorch(linear.encoder, linear.decoder, SHAPE)
    z = model.encode(images)
    np.testing.assert_allclose(z, linear.codes(images), atol=1e-5)
    np.testing.assert_allclose(model.decode(z), linear.images(z), atol=1e-5)
    np.testing.assert_array_equal(model.reconstruct(images), model.decode(z))
    assert z.dtype == model.decode(z.astype(np.float64)).dtype == np.float32
    assert not hasattr(model, "posterior")
    assert linear.encoder[1].weight.dtype == dtype


def test_a_linear_modules_fields_have_their_closed_form():
    images, linear = sections(), Linear()
    model = FromTorch(linear.encoder, linear.decoder, SHAPE, images=images)
    scale = linear.codes(images).std(axis=0, ddof=1)
    loadings = linear.decoder[0].weight.detach().numpy().T.reshape(3, *SHAPE) * scale[:, None, None]
    painted = projective_field(model, model.encode(images)[0], C)
    np.testing.assert_allclose(painted.variance_all, loadings**2 * C.var(), rtol=1e-3, atol=1e-5)

    weights = weight_range(images, MASKS)
    seen = receptive_field(model, images, MASKS, weights)
    rows = linear.encoder[1].weight.detach().numpy() / scale[:, None]
    step = (weights[:, -1] - weights[:, 0]) * seen.mean_brightness
    shift = step[:, None] * (MASKS.reshape(3, -1) @ rows.T)
    np.testing.assert_allclose(seen.means[:, -1] - seen.means[:, 0], shift, atol=1e-4)


def test_methods_of_one_module_with_a_posterior():
    torch.manual_seed(0)
    vae, images = VAE(), sections()
    model = FromTorch(vae.encode, vae.paint, SHAPE)
    mean, std = model.posterior(images)
    weight, bias = (t.detach().numpy() for t in (vae.body[2].weight, vae.body[2].bias))
    expected = flat(images) @ weight.T + bias
    np.testing.assert_allclose(mean, expected[:, :2], atol=1e-5)
    np.testing.assert_allclose(std, np.exp(expected[:, 2:] / 2), rtol=1e-4)
    np.testing.assert_array_equal(model.encode(images), mean)
    field = receptive_field(model, images, MASKS, weight_range(images, MASKS))
    np.testing.assert_allclose(field.posterior_variances_original, std**2, rtol=1e-4)


def test_images_scale_a_posteriors_mean_and_standard_deviation_alike():
    vae, images = VAE(), sections()
    own = FromTorch(vae.encode, vae.paint, SHAPE)
    scaled = FromTorch(vae.encode, vae.paint, SHAPE, images=images)
    mean, std = own.posterior(images)
    for found, before in zip(scaled.posterior(images), (mean, std), strict=True):
        np.testing.assert_allclose(found, before / mean.std(axis=0, ddof=1), rtol=1e-5)


def test_dropout_is_off_and_every_mode_is_as_before_after_an_error_too():
    vae, images = VAE(), sections()
    vae.train()
    vae.head.eval()  # as where a part is frozen
    model = FromTorch(vae.encode, vae.paint, SHAPE)
    np.testing.assert_array_equal(model.encode(images), model.encode(images))
    assert [vae.training, vae.body[1].training, vae.head.training] == [True, True, False]
    assert all(p.requires_grad and p.grad is None for p in vae.parameters())
    assert model.encode(images[:0]).shape == (0, 2)
    assert model.decode(np.zeros((0, 2))).shape == (0, *SHAPE)
    del vae.body[2].bias
    with pytest.raises(AttributeError):
        model.encode(images)
    assert vae.training and not vae.head.training


def test_modules_that_work_in_place_leave_images_alone():
    images, encoder = sections() - 0.5, nn.Sequential(nn.ReLU(inplace=True), nn.Flatten())
    kept = images.copy()
    model = FromTorch(encoder, nn.Unflatten(1, SHAPE), SHAPE)
    np.testing.assert_array_equal(model.reconstruct(images), np.maximum(kept, 0))
    np.testing.assert_array_equal(images, kept)


def test_plain_functions_get_float32():
    seen = []

    def encoder(x):
        seen.append((x.dtype, x.shape[1:], x.requires_grad, torch.is_grad_enabled()))
        return x.flatten(1)[:, :2]

    model = FromTorch(encoder, lambda z: z.repeat(1, PIXELS // 2).reshape(-1, *SHAPE), SHAPE)
    images = sections()
    np.testing.assert_array_equal(model.encode(images), flat(images)[:, :2])
    assert set(seen) == {(torch.float32, (1, *SHAPE), False, False)}


def test_functions_that_work_in_place_leave_images_and_codes_alone():
    images, z = sections(), np.ones((2, PIXELS), np.float32)
    model = FromTorch(
        lambda x: x.mul_(2).flatten(1), lambda z: z.div_(2).reshape(-1, *SHAPE), SHAPE
    )
    np.testing.assert_array_equal(model.reconstruct(images), sections())
    model.decode(z)
    np.testing.assert_array_equal(images, sections())
    np.testing.assert_array_equal(z, 1)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda x: x,
            r"encoder answered a Tensor \(2, 1, 6, 11\); .* \(2, latent_dim\)",
        ),
        (lambda x: x.mean((1, 2, 3)), r"encoder answered a Tensor \(2,\)"),
        (lambda x: {"mean": x}, r"encoder answered a dict \(\); it must answer \(2, latent_dim\)"),
        (lambda x: (x.flatten(1),) * 3, r"encoder answered a tuple \(\)"),
        (lambda x: (x.flatten(1), x.flatten(1)[:, :2]), r"Tensor \([12], 2\); .*\([12], 66\)"),
    ],
)
def test_a_wrong_encoder_is_refused_when_it_is_wrapped(answer, message):
    with pytest.raises(ValueError, match=message) as error:
        FromTorch(answer, lambda z: z[:, :1, None].expand(-1, *SHAPE), SHAPE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda z: z, r"decoder answered a Tensor \(2, 3\); it must answer \(2, 6, 11\)"),
        (lambda z: torch.zeros(len(z), 3, *SHAPE), r"decoder answered a Tensor \(2, 3, 6, 11\)"),
        (lambda z: torch.zeros(len(z), 1, 11, 6), r"decoder answered a Tensor \(2, 11, 6\)"),
        (lambda z: torch.zeros(1, *SHAPE), r"decoder answered a Tensor \(1, 6, 11\)"),
        (lambda z: [z], r"decoder answered a list \(\)"),
    ],
)
def test_a_wrong_decoder_is_refused_when_it_is_wrapped(answer, message):
    with pytest.raises(ValueError, match=message):
        FromTorch(Linear().encoder, answer, SHAPE)


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ValueError, match="device='tpu9' is not here; auto, cpu"):
        FromTorch(Linear().encoder, Linear().decoder, SHAPE, device="tpu9")
    model = FromTorch(Linear().encoder, Linear().decoder, SHAPE, device="cpu")
    assert model.encode(sections()).shape == (30, 3)
