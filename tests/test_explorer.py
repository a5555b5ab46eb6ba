"""The latent explorer: what is written runs as the models do, and the page works."""

import base64
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from refusals import refused
from torch import nn

from brainvae_core import explorer
from brainvae_core.cohorts import drawn_atlas, simulate
from brainvae_core.explorer import (
    Arrays,
    explorer_data,
    latent_readings,
    network_layers,
    region_labels,
    shown_models,
    write_script,
)
from brainvae_core.fields import perturb
from brainvae_core.models import PCA, BetaVAE
from brainvae_core.prepare import prepare_cohort
from brainvae_core.settings import Settings, read_profile

ROOT = Path(__file__).parent.parent
STATIC = ROOT / "book/_static"
LARGEST = 8e6  # bytes of a page with all that it loads


def random_model(latent_dim, image_shape, seed=0):
    """Weights that make every latent count, biases and an offset that would be missed."""
    torch.manual_seed(seed)
    model = BetaVAE(latent_dim, image_shape)
    with torch.no_grad():
        for parameter in [*model.decoder.parameters(), *model.encoder.parameters()]:
            if parameter.ndim == 1:
                parameter.normal_(0, 0.2)
        for parameter in model.decoder.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.6)
        model.encoder[-1].weight.mul_(0.7)
        model.output_offset.normal_(0, 0.7)
        model.input_mean.uniform_(0, 0.6)
        model.input_scale.fill_(0.3)
    return model


@pytest.fixture(scope="module")
def cohort():
    return simulate(60, drawn_atlas(), (80, 112), artefact_share=0.4, seed=0)


def made(cohort, latent_dim, shape, **models):
    model = random_model(latent_dim, shape)
    p = Settings().changed({"rois": ["HPF", "TH"], "latent_dim": latent_dim})
    return model, explorer_data(p, cohort.resampled(shape), {"β-VAE": model, **models})


@pytest.fixture(scope="module")
def pca(cohort):
    return PCA.fit(cohort.resampled((40, 56)).split("train").images, 3)


@pytest.fixture(scope="module")
def small(cohort, pca):
    """A model of 3 latents at 40 × 56, PCA, and what the page shows of them."""
    return made(cohort, 3, (40, 56), PCA=pca)


# ---- what is written ----


def read(text):
    kind, content = text.split(":")
    return np.frombuffer(base64.b64decode(content), f"<{kind}")


def test_an_array_is_written_once_and_in_half_precision_only_where_that_is_exact():
    arrays, exact, fine = Arrays(), np.float32([0.5, -2, 7]), np.float32([0.1, 1e5])
    assert [arrays.add(a) for a in (exact, fine, exact.copy())] == [0, 1, 0]
    assert [text[:2] for text in arrays] == ["f2", "f4"]


def test_a_layer_that_the_page_cannot_run_is_refused():
    refused([("does not know the layer Tanh", network_layers, nn.Sequential(nn.Tanh()), Arrays())])


def test_what_a_latent_follows_is_the_planted_factor_that_made_it():
    rng = np.random.default_rng(0)
    factors = pd.DataFrame(rng.normal(size=(300, 3)), columns=["age", "width", "light"])
    noisy = factors["width"] + rng.normal(size=300)
    codes = pd.DataFrame({0: -2 * factors["light"] + 1, 1: noisy, 2: 1e-3 * rng.normal(size=300)})
    found = latent_readings(codes, factors, np.arange(300) >= 150)
    assert [r.get("factor") for r in found] == ["light", "width", None]
    assert found[0]["r2"] == 1 and found[1]["r2"] == pytest.approx(0.5, abs=0.15)
    assert [r["active"] for r in found] == [True, True, False]
    assert found[0]["low"] < -2 < 4 < found[0]["high"]


def test_the_script_is_classic_and_an_error_is_told_in_one_line(tmp_path, monkeypatch):
    path = write_script(tmp_path / "new/explorer_data.js", {"name": "β"})
    assert path.read_text("utf-8") == 'window.brainvaeExplorerData = {"name":"β"};\n'
    with pytest.raises(ValueError):
        write_script(path, {"value": float("nan")})
    assert "β" in path.read_text("utf-8")
    monkeypatch.setattr(sys, "argv", ["explorer", str(tmp_path / "no.yaml"), str(tmp_path / "x")])
    with pytest.raises(SystemExit, match="^error: no profile .*no.yaml"):
        explorer.main()


def test_every_pixel_of_the_brain_has_a_named_region(cohort):
    atlas = cohort.atlas
    labels, regions = region_labels(atlas, 0.01)
    assert ((labels > 0) == atlas.brain_mask).all()
    assert labels.max() == len(regions) == len({r["acronym"] for r in regions})
    main = [r["acronym"] for r in regions if r["main"]]
    assert main == atlas.regions(0.01)
    for i, mask in enumerate(atlas.roi_masks(main), 1):
        assert (mask == (labels == i)).all()


# ---- the page ----


def write_page(folder, data, theme="light"):
    """The container of the book's page on a page of its own, as files."""
    container = re.search(
        r"```\{raw\} html\n(.*?)```", (ROOT / "book/explorer.md").read_text(), re.S
    )
    style = 'html[data-theme="dark"] { background: #14181e; color: #ced6dd; } body { margin: 8px; }'
    page = folder / "book/explorer.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(
        f'<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Explorer</title>'
        f"<style>{style}</style></head><body><main><h1>Explorer</h1>{container[1]}</main></body>"
    )
    (folder / "_static").mkdir(exist_ok=True)
    for name in ("explorer.js", "explorer.css"):
        shutil.copy(STATIC / name, folder / "_static")
    if data is not None:
        write_script(folder / "_static/explorer_data.js", data)
    return page


STATE = "brainvaeExplorer.state"


@pytest.fixture
def visit(browser):
    """Opens a page file in a context of its own; at the end nothing may have gone wrong in it."""
    contexts, faults, urls = [], [], []

    def opened(path, script=None):
        context = browser.new_context()
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda r: urls.append(r.url))
        if script:
            page.add_init_script(script)
        page.goto(path if isinstance(path, str) else path.as_uri())
        drawn(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [url for url in urls if not url.startswith(("file:", "blob:", "data:"))] == []
    assert faults == []


def drawn(page):
    """Waits until what is shown is what the sliders say."""
    page.wait_for_function(f"() => {STATE}.ready && String({STATE}.shown.z) === String({STATE}.z)")


def state(page):
    found = page.evaluate(
        f"""() => {{ const s = {STATE}; return {{ ...s, shown: null,
        image: s.shown.image && Array.from(s.shown.image),
        begin: s.shown.startImage && Array.from(s.shown.startImage),
        codes: {{ before: Array.from(s.codes.before || []), after: Array.from(s.codes.after || []),
                 words: s.codes.words }} }} }}"""
    )
    return found | {k: np.array(found[k]) for k in ("image", "begin", "z")}


def slide(page, of, value):
    """Moves the slider of a latent's number, or of a name."""
    page.locator(f"#lx-f{of}" if isinstance(of, int) else of).evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')) }", value
    )


def pixels_of(view):
    """The colours of a picture, (n, 4)."""
    found = view.evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    )
    return np.reshape(found, (-1, 4))


def status(page, words):
    """Waits until the page's status has these words; what it is."""
    page.wait_for_function(
        "words => document.querySelector('.lx-status').textContent.includes(words)", arg=words
    )
    return page.locator("[role=status]").inner_text()


# By way of base64: numbers in JSON are slow.
THROUGH = """([name, rows, model, text]) => {
  const given = new Float32Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const n = given.length / rows, parts = [], found = [];
  for (let i = 0; i < rows; i++)
    found.push(brainvaeExplorer[name](given.slice(i * n, (i + 1) * n), model));
  const all = new Uint8Array(rows * found[0].byteLength);
  found.forEach((x, i) => all.set(new Uint8Array(x.buffer), i * x.byteLength));
  for (let i = 0; i < all.length; i += 32766)
    parts.push(btoa(String.fromCharCode(...all.subarray(i, i + 32766))));
  return parts.join("") }"""


def through(page, name, values, model=0):
    """What the page decodes codes (n, latent_dim), or encodes images, to, (n, numbers)."""
    values = np.ascontiguousarray(values, np.float32)
    text = base64.b64encode(values.tobytes()).decode()
    found = page.evaluate(THROUGH, [name, len(values), model, text])
    return read(f"f4:{found}").reshape(len(values), -1)


def apart(page, model, codes, images, number=0, parts=1):
    """The largest differences from PyTorch: of decoded images, of codes."""
    of_images, of_codes = [], []
    for part in np.array_split(codes, parts):
        wanted = model.decode(part).reshape(len(part), -1)
        assert wanted.std(axis=0).mean() > 0.005
        of_images.append(np.abs(through(page, "decode", part, number) - wanted).max())
    for part in np.array_split(images, parts):
        found = through(page, "encode", part, number)
        of_codes.append(np.abs(found - model.encode(part)).max())
    return max(of_images), max(of_codes)


@pytest.fixture(scope="module")
def page_file(small, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("explorer"), small[1])


@pytest.mark.promise("the explorer in the browser runs models as PyTorch does")
@pytest.mark.parametrize(
    ("latent_dim", "shape"),
    [(3, (40, 56)), pytest.param(11, (80, 112), marks=pytest.mark.slow)],
)
def test_the_browser_runs_models_as_pytorch_does(visit, tmp_path, cohort, latent_dim, shape):
    model, data = made(cohort, latent_dim, shape)
    page = visit(write_page(tmp_path, data))
    assert page.locator(".lx-row input[type=range]").count() == latent_dim
    codes = np.random.default_rng(1).uniform(-7, 7, (40, latent_dim)).astype(np.float32)
    assert max(apart(page, model, codes, cohort.resampled(shape).images[:40])) < 1e-3
    slide(page, latent_dim, 2.5)
    drawn(page)
    z = np.float32([data["models"][0]["typical"]])
    begin = model.decode(z)
    z[0, -1] = 2.5
    assert np.abs(state(page)["image"] - model.decode(z).ravel()).max() < 1e-3
    assert np.abs(state(page)["begin"] - begin.ravel()).max() < 1e-3


@pytest.mark.slow
def test_pca_in_255_steps_paints_and_reads_as_pca_does(visit, page_file, small, pca, cohort):
    page = visit(page_file)
    images = cohort.resampled((40, 56)).images[:20]
    codes = np.random.default_rng(0).uniform(-3, 3, (20, 3))
    of_images, of_codes = apart(page, pca, codes, images, number=1)
    assert of_images < 0.01 and of_codes < 0.02
    page.select_option("#lx-model", "1")
    drawn(page)
    assert state(page)["z"].tolist() == small[1]["models"][1]["typical"]


@pytest.mark.slow
@pytest.mark.parametrize("script", [None, "delete window.Worker", "window.Worker = class {"
    "postMessage() { setTimeout(() => this.onerror(new Event('error')), 50) } }"])  # fmt: skip
def test_sliders_move_the_image_with_and_without_a_worker(visit, page_file, small, script):
    page = visit(page_file, script=script)
    before = page.locator(".lx-pixels").nth(0).evaluate("c => c.toDataURL()")
    slide(page, 2, -3.4)
    drawn(page)
    assert page.locator(".lx-pixels").nth(0).evaluate("c => c.toDataURL()") != before
    z = [*small[1]["models"][0]["typical"]]
    z[1] = -3.4
    assert state(page)["z"].tolist() == z
    wanted = small[0].decode(np.float32([z])).ravel()
    assert np.abs(state(page)["image"] - wanted).max() < 1e-3


@pytest.mark.slow
def test_keys_move_a_slider_and_tab_reaches_every_control(visit, page_file, small):
    page = visit(page_file)
    page.get_by_label(re.compile("^F3")).focus()
    slide(page, 3, 0)
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    drawn(page)
    assert state(page)["z"].tolist() == [*small[1]["models"][0]["typical"][:2], 0.2]
    page.locator("#lx-model").focus()
    reached, active = set(), "document.activeElement.id || document.activeElement.textContent"
    for _ in range(30):
        reached.add(page.evaluate(active))
        page.keyboard.press("Tab")
    buttons = {"Typical brain", "Back to the start", "Play F3", "Copy link"}
    fields = {"lx-model", "lx-start", "lx-outlines", "lx-f1", "lx-region", "lx-by"}
    assert buttons | fields <= reached


@pytest.mark.slow
def test_a_brain_is_a_start_and_buttons_go_back_to_it_or_to_the_typical_one(
    visit, page_file, small, cohort
):
    model, data = small
    page = visit(page_file)
    brain = data["brains"][1]
    page.select_option("#lx-start", brain["id"])
    drawn(page)
    code = data["models"][0]["codes"][1]
    wanted = model.decode(np.float32([code])).ravel()
    assert np.abs(state(page)["begin"] - wanted).max() < 1e-3
    assert state(page)["z"].tolist() == code
    shown = pixels_of(page.get_by_role("img", name="Section of brain"))
    row = cohort.metadata.index.get_loc(brain["id"])
    greys = np.clip(cohort.resampled((40, 56)).images[row] / data["white"], 0, 1) * 255
    assert np.abs(shown[:, 0].reshape(40, 56) - greys).max() < 2
    slide(page, 1, 5)
    page.get_by_role("button", name="Back to the start").click()
    drawn(page)
    assert state(page)["z"].tolist() == code
    page.get_by_role("button", name="Typical brain").click()
    drawn(page)
    assert state(page)["z"].tolist() == data["models"][0]["typical"]


@pytest.mark.slow
@pytest.mark.parametrize(("roi", "by"), [("HPF", 40), ("TH", -30)])
def test_a_region_made_brighter_or_darker_moves_the_codes(visit, page_file, small, cohort, roi, by):
    model, data = small
    page = visit(page_file)
    slide(page, 2, 1)
    drawn(page)
    page.wait_for_function(f"{STATE}.codes.of === {STATE}.shown.image && {STATE}.codes.after")
    names = [r["acronym"] for r in data["rois"]]
    page.select_option("#lx-region", str(names.index(roi)))
    slide(page, "#lx-by", by)
    words = f"{roi} {abs(by)} % {'brighter' if by > 0 else 'darker'}"
    page.wait_for_function(f"{STATE}.codes.words === '{words}'")
    image = state(page)["image"].reshape(1, 40, 56).astype(np.float32)
    (mask,) = cohort.resampled((40, 56)).atlas.roi_masks([roi])
    changed = perturb(image, mask, by / 100, image[0][mask].mean(), "add")
    with torch.no_grad():
        wanted = model.posterior_parameters(torch.as_tensor(changed))[0][0].numpy()
    codes = state(page)["codes"]
    np.testing.assert_allclose(codes["before"], model.encode(image)[0], atol=1e-3)
    np.testing.assert_allclose(codes["after"], wanted, atol=1e-3)
    most = np.abs(np.subtract(codes["after"], codes["before"])).argmax()
    assert f"{words}: F{most + 1} moves most" in page.locator("[role=status]").inner_text()


@pytest.mark.slow
def test_what_is_told_and_painted_is_what_changed(visit, page_file, small):
    model, data = small
    page = visit(page_file)
    slide(page, 1, 6)
    drawn(page)
    shown = status(page, "Mean")
    begin = data["models"][0]["typical"]
    a, b = (model.decode(np.float32([[v, *begin[1:]]]))[0] for v in (6, begin[0]))
    labels = read(data["arrays"][data["labels"]]).reshape(a.shape)
    change = {
        r["acronym"]: (a - b)[labels == i].mean()
        for i, r in enumerate(data["regions"], 1)
        if r["main"]
    }
    most = sorted(change, key=lambda k: -abs(change[k]))
    mean = np.abs(a - b)[labels > 0].mean()
    assert float(re.search(r"brain (\d\.\d+);", shown)[1]) == pytest.approx(mean, abs=6e-4)
    assert re.findall(r"(\S+) [+−]\d", shown) == most[:3]
    difference = (a - b).ravel()
    limit = np.abs(difference).max()
    red, _, blue, _ = pixels_of(page.locator(".lx-pixels").nth(1)).T
    brighter, darker = difference > 0.2 * limit, difference < -0.2 * limit
    assert brighter.any() and darker.any()
    assert (red[brighter] > blue[brighter]).all() and (red[darker] < blue[darker]).all()


@pytest.mark.slow
def test_play_moves_one_latent_until_it_is_paused(visit, page_file, small):
    page = visit(page_file)
    page.locator("#lx-f2").focus()
    page.get_by_role("button", name="Play F2").click()
    page.wait_for_function(f"{STATE}.z[1] > 0.5")
    page.get_by_role("button", name="Pause F2").click()
    drawn(page)
    z, begin = state(page)["z"], small[1]["models"][0]["typical"]
    page.wait_for_timeout(200)
    assert state(page)["z"].tolist() == z.tolist() == [begin[0], z[1], begin[2]]


@pytest.mark.slow
def test_a_link_restores_the_state_in_a_new_page(visit, page_file, small):
    copying = "navigator.clipboard.writeText = async text => { window.copied = text }"
    page = visit(page_file, script=copying)
    page.select_option("#lx-start", small[1]["brains"][0]["id"])
    slide(page, 3, -1.7)
    drawn(page)
    page.locator("#lx-f3").focus()
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_function("window.copied")
    link, first = page.evaluate("window.copied"), state(page)
    assert link == page.evaluate("location.href")
    second = visit(link)
    assert state(second)["start"] == first["start"] and state(second)["latent"] == 2
    assert state(second)["z"].tolist() == first["z"].tolist()
    assert (state(second)["image"] == first["image"]).all()
    for broken in (f"fit={small[1]['fit']}", "z="):
        other = visit(link.replace(broken, broken + "9,x" if "z" in broken else "fit=other"))
        assert state(other)["start"] == "typical"
        status(other, "other models" if "fit" in broken else "incomplete")


@pytest.mark.slow
def test_pointing_names_the_region_under_the_pointer(visit, tmp_path, small):
    data = dict(small[1])
    labels = np.zeros((40, 56), "u1")
    labels[3:9, 40:54] = 2  # upper right: another region when an axis is swapped or mirrored
    labels[25:38, 2:8] = 1
    text = "u1:" + base64.b64encode(labels.tobytes()).decode()
    data["arrays"], data["labels"] = [*data["arrays"], text], len(data["arrays"])
    page = visit(write_page(tmp_path, data))
    for view in (0, 1):
        box = page.locator(".lx-stack").nth(view).bounding_box()
        for row, column, label in ((4, 52, 2), (36, 3, 1), (8, 41, 2)):
            x = box["x"] + (column + 0.5) * box["width"] / 56
            page.mouse.move(x, box["y"] + (row + 0.5) * box["height"] / 40)
            assert state(page)["region"] == label
            mean = state(page)["image"].reshape(40, 56)[labels == label].mean()
            shown = page.locator(".lx-tip").inner_text()
            assert data["regions"][label - 1]["name"] in shown
            assert f"mean brightness {mean:.3f}" in shown


@pytest.mark.slow
def test_axe_finds_nothing_in_the_dark(visit, tmp_path, small):  # light is the book's page
    from axe_playwright_python.sync_playwright import Axe

    page = visit(write_page(tmp_path, small[1], "dark"))
    slide(page, 1, 4)
    drawn(page)
    page.wait_for_function(f"{STATE}.codes.after")  # the table has its words
    found = Axe().run(page, options={"preload": False})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.slow
def test_a_page_that_cannot_work_says_what_to_do(browser, tmp_path, small):
    def shows(name, data, words, script="", **options):
        context = browser.new_context(**options)
        page = context.new_page()
        page.add_init_script(script)
        page.goto(write_page(tmp_path / name, data).as_uri())
        if script:
            page.wait_for_function(f"document.body.textContent.includes('{words}')")
        assert words in page.locator("#lx-root").inner_text()
        context.close()

    shows("no data", None, "run make book")
    shows("older", {"format": 0}, "run make book")
    old = "delete window.Worker; delete window.WebAssembly"
    shows("old", small[1], "This browser cannot run", old)
    shows("off", small[1], "needs JavaScript", java_script_enabled=False)


# ---- the released weights ----


@pytest.mark.promise("the explorer in the browser runs models as PyTorch does")
@pytest.mark.fitted
@pytest.mark.nightly
def test_a_profiles_page_is_small_and_agrees_a_thousand_times(visit, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    p = read_profile("full")
    cohort = prepare_cohort(p)
    models = shown_models(p, cohort)
    file = write_page(tmp_path, explorer_data(p, cohort, models))
    size = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    assert size <= LARGEST, f"{size / 1e6:.2f} MB"
    rng, model = np.random.default_rng(0), next(iter(models.values()))
    codes = np.concatenate([rng.normal(0, 1, (500, 8)), rng.uniform(-7, 7, (500, 8))])
    found = apart(visit(file), model, codes.astype(np.float32), cohort.images[:1000], parts=50)
    print(f"of 1,000 codes and images at most {found} apart; page {size / 1e6:.2f} MB")
    assert max(found) < 1e-3
