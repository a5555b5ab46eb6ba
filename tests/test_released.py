"""The authors' checkpoint as one of our models: the same codes and images, or one line why not."""

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from authors_release import AuthorsNetwork, checkpoint, on_their_side
from refusals import refused
from small_brains import Brains

from brainvae_core import explorer
from brainvae_core.models import ReleasedConfig, fit, load_run, read_released, run_name, save_run
from brainvae_core.settings import Settings


def written(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("k", "latent_dim"), [(1, 1), (2, 3), (3, 8), (4, 11), (5, 2), (6, 8)])
@pytest.mark.parametrize("legacy", [True, False])
def test_codes_and_images_are_their_networks(tmp_path, k, latent_dim, legacy):
    theirs = AuthorsNetwork(latent_dim, k, seed=k).eval()
    prefix = "module." if k % 2 else ""
    path = written(tmp_path / "checkpoint", checkpoint(theirs, prefix, 1234, legacy))
    ours, config = read_released(path)
    shape = (5 * 2**k, 7 * 2**k)
    assert (ours.image_shape, ours.latent_dim) == (shape, latent_dim)
    assert (config.latent_dim, config.beta, config.steps) == (latent_dim, 3.0, 1234)
    rng = np.random.default_rng(k)
    images = rng.random((3, *shape), dtype=np.float32)
    z = rng.normal(0, 2, (3, latent_dim)).astype(np.float32)
    with torch.no_grad():
        said = theirs.encoder(torch.from_numpy(on_their_side(images))[:, None])
        decoded = torch.sigmoid(theirs.decoder(torch.from_numpy(z)))[:, 0].mT.numpy()
    mean, logvar = said.numpy()[:, :latent_dim], said.numpy()[:, latent_dim:]
    found, spread = ours.posterior(images)
    assert mean.std(axis=0).max() > 0.01 and decoded.std(axis=0).max() > 0.01
    np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(spread, np.exp(logvar / 2), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.decode(z), decoded, rtol=1e-5, atol=1e-5)
    for turned in (images[:, ::-1], images[:, :, ::-1]):  # it sees how sections stand
        assert np.abs(ours.encode(turned.copy()) - mean).max() > 1e-3
    assert ours.n_parameters == sum(w.numel() for w in theirs.parameters())
    assert k < 6 or latent_dim != 8 or ours.n_parameters == 730_289


def test_a_released_run_is_loaded_and_never_fitted(tmp_path):
    path = written(tmp_path / "checkpoint", checkpoint(AuthorsNetwork(3, 2)))
    model, config = read_released(path)
    brains = Brains(*np.random.default_rng(0).random((2, 3, 20, 28)))
    refused([("read, never fitted.*`make authors`", fit, brains, config, tmp_path, "cpu")])
    name = run_name(config, Brains.fingerprint)
    assert name.startswith("released_vae-L3-beta3-") and len(config.checkpoint_sha256) == 64
    save_run(tmp_path / name, config, Brains.fingerprint, "brains", model, [{"step": 5}])
    for run in (fit(brains, config, tmp_path, "cpu"), load_run(tmp_path / name)):
        assert run.config == config and type(run.config) is ReleasedConfig
        for key, value in run.model.tensors().items():
            assert np.array_equal(value, model.tensors()[key]), key


def test_a_page_names_the_authors_model_and_shows_no_failed_fit(tmp_path, monkeypatch):
    _, theirs = read_released(written(tmp_path / "checkpoint", checkpoint(AuthorsNetwork(3, 2))))
    p = Settings().changed({"places.runs": str(tmp_path), "evaluation.seeds": (0, 1, 2)})
    (tmp_path / run_name(replace(p.model, seed=1), Brains.fingerprint)).mkdir()  # has no weights
    (fitted := tmp_path / run_name(replace(p.model, seed=2), Brains.fingerprint)).mkdir()
    (fitted / "weights.safetensors").touch()
    monkeypatch.setattr(explorer, "fit", lambda _, config, *__: SimpleNamespace(model=config))
    for first, names in (
        (theirs, ["β-VAE of the authors", "PCA"]),
        (p.model, ["β-VAE, seed 0", "β-VAE, seed 2", "PCA"]),
    ):
        configs = {"β-VAE": first, "PCA": None}
        monkeypatch.setattr(explorer, "compared_configs", lambda _, configs=configs: configs)
        assert list(explorer.shown_models(p, Brains)) == names


def changed(name, change):
    network = AuthorsNetwork(3, 2)
    weights = network.state_dict()
    weights[name] = change(weights[name])
    network.state_dict = lambda: weights
    network.parameters = lambda: iter([torch.zeros(1, requires_grad=True)])
    return checkpoint(network)


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


class Unsafe:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.promise("nothing is unpickled: a file that is read cannot run code")
def test_other_files_are_refused_in_one_line(tmp_path, capsys):
    good = checkpoint(AuthorsNetwork(3, 2))
    cases = {
        "no checkpoint at": None,
        "whole file of torch.save": b"<!DOCTYPE html><html></html>",
        "(?s)whole file of torch.save ": good[: len(good) // 2],
        "whole file of torch.save with": checkpoint(AuthorsNetwork(3, 2), legacy=True)[:-500],
        "read as weights alone": checkpoint(AuthorsNetwork(3, 2), extra=Unsafe()),
        r"no weights under .'model_states'..'net'., where": saved({"state_dict": {}}),
        r"no weights under .*authors have them": saved([1, 2]),
        "another network.*it has no layer": saved({"model_states": {"net": {}}}),
        "another network.*it has fc.weight": saved(
            {"model_states": {"net": {"fc.weight": torch.zeros(3)}}}
        ),
        "it has 3 convolutions and decoder.0.weight .256,., theirs 2 to 7 and .256, L.$": changed(
            "decoder.0.weight", lambda w: w[:, 0]
        ),
        r"encoder.7.weight is \(256, 700\), theirs \(256, 768\)$": changed(
            "encoder.7.weight", lambda w: w[:, :700]
        ),
        r"encoder.2.weight is \(16, 32, 4, 4\), theirs \(32, 32, 4, 4\)$": changed(
            "encoder.2.weight", lambda w: w[:16]
        ),
        "decoder.2.bias of .* no finite number": changed("decoder.2.bias", lambda w: w * torch.nan),
        "encoder.0.bias of .* no finite number": changed("encoder.0.bias", lambda w: w.long()),
    }
    for i, (message, content) in enumerate(cases.items()):
        path = tmp_path / f"checkpoint{i}"
        if content is not None:
            path.write_bytes(content)
        refused([(message, read_released, path)])
        with pytest.raises(ValueError, match=path.name):
            read_released(path)
    assert "unpickled" not in capsys.readouterr().out
