"""The latent explorer: what is written decodes as the model does, and the page works."""

import base64
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from brainvae_core import explorer
from brainvae_core.cohorts import drawn_atlas, simulate
from brainvae_core.explorer import decoder_layers, explorer_data, region_labels, write_script
from brainvae_core.models import PCA, BetaVAE, fit
from brainvae_core.prepare import prepare_cohort
from brainvae_core.settings import Settings, read_profile

ROOT = Path(__file__).parent.parent
STATIC = ROOT / "book/_static"


def random_model(latent_dim, image_shape, seed=0):
    """Weights that make every latent count, biases and an offset that would be missed."""
    torch.manual_seed(seed)
    model = BetaVAE(latent_dim, image_shape)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0, 0.2)
            else:
                parameter.mul_(1.6)
        model.output_offset.normal_(0, 0.7)
    return model


@pytest.fixture(scope="module")
def cohort():
    return simulate(60, drawn_atlas(), (80, 112), artefact_share=0.4, seed=0)


def made(cohort, latent_dim, shape):
    model = random_model(latent_dim, shape)
    p = Settings().changed({"rois": ["HPF", "TH"], "n_weights": 2, "latent_dim": latent_dim})
    return model, explorer_data(p, cohort.resampled(shape), model, "beta_vae-L3-0123abcd")


@pytest.fixture(scope="module")
def small(cohort):
    """A model of 3 latents at 40 × 56 and what the page shows of it."""
    return made(cohort, 3, (40, 56))


# ---- what is written ----


def read_floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def decode_written(layers, offset, z):
    """One code through the written layers, transposed convolutions by adding stamps."""
    x = np.asarray(z, float)
    for layer in layers:
        kind = layer["kind"]
        if "weights" in layer:
            w = read_floats(layer["weights"]).reshape(layer["shape"]).astype(float)
            bias = read_floats(layer["bias"]).astype(float)
        if kind == "linear":
            x = w @ x + bias
        elif kind == "relu":
            x = np.maximum(x, 0)
        elif kind == "reshape":
            x = x.reshape(layer["shape"])
        elif kind == "upsampling":
            s, p, (ky, kx) = layer["stride"], layer["padding"], w.shape[2:]
            _, h, wide = x.shape
            full = np.zeros((w.shape[1], (h - 1) * s + ky, (wide - 1) * s + kx))
            for i, j in np.ndindex(h, wide):
                stamp = np.tensordot(x[:, i, j], w, 1)
                full[:, i * s : i * s + ky, j * s : j * s + kx] += stamp
            x = full[:, p : full.shape[1] - p, p : full.shape[2] - p] + bias[:, None, None]
        else:
            raise AssertionError(kind)
    return 1 / (1 + np.exp(-(x[0] + read_floats(offset).reshape(x.shape[1:]))))


@pytest.mark.parametrize(("latent_dim", "shape"), [(3, (20, 28)), (5, (40, 56)), (2, (80, 112))])
def test_the_written_layers_decode_as_the_model_does(latent_dim, shape):
    model = random_model(latent_dim, shape, seed=latent_dim)
    layers = json.loads(json.dumps(decoder_layers(model)))
    offset = explorer._base64(model.output_offset)
    codes = np.random.default_rng(0).normal(0, 2, (3, latent_dim)).astype(np.float32)
    wanted = model.decode(codes)
    assert wanted.std(axis=0).mean() > 0.01
    found = np.stack([decode_written(layers, offset, z) for z in codes])
    assert np.abs(found - wanted).max() < 1e-5


def test_a_model_without_layers_is_refused_in_one_line():
    with pytest.raises(ValueError, match="^PCA has no decoder of layers to show in a page$"):
        decoder_layers(object.__new__(PCA))
    model = random_model(2, (20, 28))
    model.decoder.append(torch.nn.Tanh())
    with pytest.raises(ValueError, match="does not know the layer Tanh"):
        decoder_layers(model)
    model.decoder[-1] = torch.nn.ConvTranspose2d(1, 1, 4, stride=2, output_padding=1)
    with pytest.raises(ValueError, match="does not know the layer ConvTranspose2d"):
        decoder_layers(model)


def test_the_script_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    path = write_script(tmp_path / "new/explorer_data.js", {"name": "β"})
    assert path.read_text("utf-8") == 'window.brainvaeExplorerData = {"name":"β"};\n'
    with pytest.raises(ValueError):
        write_script(path, {"value": float("nan")})
    monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_script(path, {"name": "other"})
    assert "β" in path.read_text("utf-8")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, monkeypatch):
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
    named = dict(zip(atlas.structures["acronym"], atlas.structures["name"], strict=True))
    assert all(named[r["acronym"]] == r["name"] for r in regions)


def test_the_brains_are_held_out_and_artefacts_are_said(cohort, small):
    model, data = small
    about = cohort.metadata.loc[[b["id"] for b in data["brains"]]]
    assert (about["split"] == "test").all() and 3 <= len(about) <= 12
    assert [b["fault"] or "none" for b in data["brains"]] == about["artefact"].tolist()
    assert "" in {b["fault"] for b in data["brains"]} != {""}
    images = cohort.resampled((40, 56)).images
    for brain in data["brains"]:
        row = cohort.metadata.index.get_loc(brain["id"])
        pixels = np.frombuffer(base64.b64decode(brain["pixels"]), np.uint8).reshape(40, 56)
        assert np.abs(pixels / 255 - images[row]).max() <= 0.5 / 255 + 1e-6
        np.testing.assert_allclose(brain["code"], model.encode(images[[row]])[0], atol=6e-4)


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
def visit(browser, request):
    """Opens a page file in a context of its own; at the end nothing may have gone wrong in it."""
    contexts, faults, asked = [], [], []

    def opened(path, *, wait=True, script=None, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda r: asked.append(r.url))
        if script:
            page.add_init_script(script)
        page.goto(path if isinstance(path, str) else path.as_uri())
        if wait:
            drawn(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
    assert faults == []


def drawn(page):
    """Waits until what is shown is what the sliders say."""
    page.wait_for_function(
        f"""() => {{ const s = {STATE}; return s.shown.image && s.shown.startImage
        && s.shown.start === s.start && String(s.shown.z) === String(s.z) }}"""
    )


def state(page):
    found = page.evaluate(
        f"""() => {{ const s = {STATE}; return {{ ...s, shown: null,
        image: s.shown.image && Array.from(s.shown.image),
        begin: s.shown.startImage && Array.from(s.shown.startImage) }} }}"""
    )
    return found | {k: np.array(found[k]) for k in ("image", "begin", "z")}


def slide(page, latent, value):
    page.locator(f"#lx-f{latent}").evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')) }", value
    )


def decoded(page, codes):
    """The page's images of codes (n, latent_dim), by way of base64: numbers in JSON are slow."""
    text = page.evaluate(
        """codes => { const images = codes.map(z => brainvaeExplorer.decode(Float32Array.from(z)));
        const all = new Uint8Array(images.length * images[0].byteLength);
        images.forEach((x, i) => all.set(new Uint8Array(x.buffer), i * x.byteLength));
        const parts = [];
        for (let i = 0; i < all.length; i += 32766)
            parts.push(btoa(String.fromCharCode(...all.subarray(i, i + 32766))));
        return parts.join("") }""",
        np.asarray(codes).tolist(),
    )
    return read_floats(text).reshape(len(codes), -1)


@pytest.fixture(scope="module")
def page_file(small, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("explorer"), small[1])


@pytest.mark.parametrize(("latent_dim", "shape"), [(3, (40, 56)), (11, (80, 112))])
def test_the_browser_decodes_as_pytorch_does(visit, tmp_path, cohort, latent_dim, shape):
    model, data = made(cohort, latent_dim, shape)
    page = visit(write_page(tmp_path, data))
    assert page.locator("#lx-root input[type=range]").count() == latent_dim
    codes = np.random.default_rng(1).uniform(-7, 7, (40, latent_dim)).astype(np.float32)
    wanted = model.decode(codes).reshape(40, -1)
    assert wanted.std(axis=0).mean() > 0.01
    assert np.abs(decoded(page, codes) - wanted).max() < 1e-3
    slide(page, latent_dim, 2.5)
    drawn(page)
    z = np.zeros((1, latent_dim), np.float32)
    begin = model.decode(z)
    z[0, -1] = 2.5
    assert np.abs(state(page)["image"] - model.decode(z).ravel()).max() < 1e-3
    assert np.abs(state(page)["begin"] - begin.ravel()).max() < 1e-3


@pytest.mark.parametrize("script", [None, "delete window.Worker", "window.Worker = class {"
    "postMessage() { setTimeout(() => this.onerror(new Event('error')), 50) } }"])  # fmt: skip
def test_sliders_move_the_image_with_and_without_a_worker(visit, page_file, small, script):
    page = visit(page_file, script=script)
    before = page.locator(".lx-pixels").nth(0).evaluate("c => c.toDataURL()")
    slide(page, 2, -3.4)
    drawn(page)
    assert page.locator(".lx-pixels").nth(0).evaluate("c => c.toDataURL()") != before
    assert state(page)["z"].tolist() == [0, -3.4, 0]
    wanted = small[0].decode(np.float32([[0, -3.4, 0]])).ravel()
    assert np.abs(state(page)["image"] - wanted).max() < 1e-3


def test_keys_move_a_slider_and_the_numbers_and_words_agree(visit, page_file, small):
    page = visit(page_file)
    slider, low = page.locator("#lx-f3"), small[1]["latents"][2]["low"]
    note = page.locator(f"#{slider.get_attribute('aria-describedby')}").text_content()
    assert f"brains lie between {low:.1f}".replace("-", "−") in note
    page.get_by_label(re.compile("^F3")).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    drawn(page)
    assert state(page)["z"].tolist() == [0, 0, 0.2] and state(page)["latent"] == 2
    assert page.locator("output").nth(2).inner_text() == "0.20"
    assert slider.get_attribute("aria-valuetext") == "F3, 0.2 prior standard deviations"
    assert page.get_by_role("heading", name="F3, the latent in hand").is_visible()
    page.keyboard.press("Home")
    assert state(page)["z"].tolist() == [0, 0, -7]
    assert page.locator("output").nth(2).inner_text() == "−7.00"
    for _ in range(40):  # from the first control to the last, by Tab alone
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.id") == "lx-start":
            break
    reached = []
    for _ in range(30):
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
        page.keyboard.press("Tab")
    assert {"lx-start", "Reset", "Play F3", "Copy link", "lx-outlines", "lx-f1"} <= set(reached)


def test_a_brain_is_a_start_and_reset_goes_back_to_it(visit, page_file, small, cohort):
    model, data = small
    page = visit(page_file)
    brain = data["brains"][1]
    page.select_option("#lx-start", brain["id"])
    drawn(page)
    wanted = model.decode(np.float32([brain["code"]])).ravel()
    assert np.abs(state(page)["begin"] - wanted).max() < 1e-3
    assert state(page)["z"].tolist() == brain["code"]
    shown = (
        page.locator(".lx-small canvas")
        .nth(0)
        .evaluate("c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)")
    )
    row = cohort.metadata.index.get_loc(brain["id"])
    greys = np.clip(cohort.resampled((40, 56)).images[row] / data["white"], 0, 1) * 255
    assert np.abs(np.reshape(shown, (40, 56, 4))[..., 0] - greys).max() < 2
    slide(page, 1, 5)
    drawn(page)
    assert state(page)["z"][0] == 5
    page.get_by_role("button", name="Reset").click()
    drawn(page)
    assert state(page)["z"].tolist() == brain["code"]
    page.wait_for_function("document.querySelector('.lx-status').textContent.startsWith('No diff')")


def test_what_is_told_is_what_changed(visit, page_file, small):
    model, data = small
    page = visit(page_file)
    slide(page, 1, 6)
    drawn(page)
    page.wait_for_function("document.querySelector('.lx-status').textContent.startsWith('Mean')")
    a, b = (model.decode(np.float32([[v, 0, 0]]))[0] for v in (6, 0))
    labels = np.frombuffer(base64.b64decode(data["labels"]), "<u2").reshape(a.shape)
    change = {
        r["acronym"]: (a - b)[labels == i].mean()
        for i, r in enumerate(data["regions"], 1)
        if r["main"]
    }
    most = sorted(change, key=lambda k: -abs(change[k]))
    told = page.locator("[role=status]").inner_text()
    mean = np.abs(a - b)[labels > 0].mean()
    assert float(re.search(r"brain (\d\.\d+);", told)[1]) == pytest.approx(mean, abs=6e-4)
    assert re.findall(r"(\S+) [+−]\d", told) == most[:3]
    label = page.locator(".lx-pixels").nth(1).get_attribute("aria-label")
    assert told in label and "F1 6.00" in page.locator(".lx-pixels").nth(0).get_attribute(
        "aria-label"
    )
    row = page.locator(".lx-table tbody tr").nth(0)
    assert row.locator("th").inner_text().startswith(most[0])
    number = float(row.locator("td").nth(1).inner_text().replace("−", "-"))
    assert number == pytest.approx(change[most[0]], abs=6e-4)
    row.locator("button").focus()
    assert data["regions"][state(page)["region"] - 1]["acronym"] == most[0]


def test_the_difference_is_red_where_the_section_became_brighter(visit, page_file):
    page = visit(page_file)
    slide(page, 1, 6)
    drawn(page)
    found = state(page)
    change = found["image"] - found["begin"]
    limit = float(page.locator(".lx-key").nth(1).locator("span").nth(2).inner_text())
    assert (np.abs(change) <= limit).mean() >= 0.998
    colours = (
        page.locator(".lx-pixels")
        .nth(1)
        .evaluate("c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)")
    )
    red, _, blue, _ = np.reshape(colours, (-1, 4)).T
    brighter, darker = change > 0.2 * limit, change < -0.2 * limit
    assert brighter.any() and darker.any()
    assert (red[brighter] > blue[brighter]).all() and (red[darker] < blue[darker]).all()


def test_play_moves_one_latent_until_it_is_paused(visit, page_file):
    page = visit(page_file)
    page.locator("#lx-f2").focus()
    page.get_by_role("button", name="Play F2").click()
    page.wait_for_function(f"{STATE}.z[1] > 0.5")
    page.get_by_role("button", name="Pause F2").click()
    drawn(page)
    z = state(page)["z"]
    page.wait_for_timeout(200)
    assert state(page)["z"].tolist() == z.tolist() and z[0] == z[2] == 0
    assert not state(page)["playing"]
    calm = visit(page_file, reduced_motion="reduce")
    calm.get_by_role("button", name="Play F1").click()
    calm.wait_for_function(f"{STATE}.z[0] > 0")
    assert state(calm)["z"][0] == 1  # one step a second, no glide


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
    assert page.locator("[role=status]").inner_text() == "Link copied."
    second = visit(link)
    assert state(second)["start"] == first["start"] and state(second)["latent"] == 2
    assert state(second)["z"].tolist() == first["z"].tolist()
    assert (state(second)["image"] == first["image"]).all()
    second.evaluate("location.hash = location.hash.replace(/z=[^&]*/, 'z=1,2,3')")
    second.wait_for_function(f"String({STATE}.z) === '1,2,3'")
    for broken in (f"fit={small[1]['fit']}", "z="):
        other = visit(link.replace(broken, broken + "9,x" if "z" in broken else "fit=other"))
        assert state(other)["start"] == "prior" and (state(other)["z"] == 0).all()
        told = "another fit" if "fit" in broken else "incomplete"
        other.wait_for_function(
            f"document.querySelector('.lx-status').textContent.includes('{told}')"
        )
    heading = visit(link.split("#")[0] + "#how-to-use-it")
    heading.wait_for_timeout(600)
    assert heading.evaluate("location.hash") == "#how-to-use-it"


def test_without_a_clipboard_the_link_stands_in_a_field(visit, page_file):
    page = visit(page_file, script="navigator.clipboard.writeText = async () => { throw 1 }")
    page.get_by_role("button", name="Copy link").click()
    field = page.get_by_label("Link to this state")
    assert field.is_visible() and field.input_value() == page.evaluate("location.href")


def test_pointing_names_the_region_under_the_pointer(visit, tmp_path, small):
    data = dict(small[1])
    labels = np.zeros((40, 56), "<u2")
    labels[3:9, 40:54] = 2  # upper right: another region when an axis is swapped or mirrored
    labels[25:38, 2:8] = 1
    data["labels"] = base64.b64encode(labels.tobytes()).decode()
    page = visit(write_page(tmp_path, data))
    for view in (0, 1):
        box = page.locator(".lx-stack").nth(view).bounding_box()
        for row, column, label in ((4, 52, 2), (36, 3, 1), (8, 41, 2)):
            x = box["x"] + (column + 0.5) * box["width"] / 56
            page.mouse.move(x, box["y"] + (row + 0.5) * box["height"] / 40)
            assert state(page)["region"] == label
            region = data["regions"][label - 1]
            told = page.locator(".lx-tip").inner_text()
            assert region["acronym"] in told and region["name"] in told
            mean = state(page)["image"].reshape(40, 56)[labels == label].mean()
            assert f"mean brightness {mean:.3f}" in told
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert page.locator(".lx-tip").is_hidden()


def test_both_fields_of_the_latent_in_hand_stand_beside_it(visit, page_file, small):
    page = visit(page_file)
    for k, latent in enumerate(small[1]["latents"], 1):
        page.locator(f"#lx-f{k}").focus()
        assert page.locator(".lx-field").get_attribute("src") == latent["projective"]
        assert (
            page.locator(".lx-field").evaluate("e => e.decode().then(() => e.naturalWidth)") == 56
        )
        values = page.locator(".lx-value").all_inner_texts()
        assert values == [f"{v:.2f}" if v >= 0.01 else "< 0.01" for v in latent["receptive"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(visit, tmp_path, small, theme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(write_page(tmp_path, small[1], theme))
    slide(page, 1, 4)
    drawn(page)
    found = Axe().run(page, options={"preload": False})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_nothing_overflows_sideways(visit, page_file, width):
    page = visit(page_file, viewport={"width": width, "height": 800})
    slide(page, 1, 4)
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    inside = page.evaluate(
        """w => [...document.querySelectorAll("#lx-root *")].every(e => {
        const b = e.getBoundingClientRect(); return b.left >= -1 && b.right <= w + 1 })""",
        width,
    )
    assert inside


def test_a_page_without_its_data_or_with_older_data_says_what_to_run(browser, tmp_path, small):
    for data in (None, {"format": 0}):
        context = browser.new_context()
        page = context.new_page()
        page.goto(write_page(tmp_path / str(data is None), data).as_uri())
        assert "run make book" in page.locator("#lx-root").inner_text()
        context.close()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(write_page(tmp_path / "off", small[1]).as_uri())
    assert "needs JavaScript" in page.locator("#lx-root").inner_text()
    context.close()


# ---- the demo's own weights ----


@pytest.mark.fitted
@pytest.mark.nightly
def test_the_demos_page_is_small_and_agrees_on_a_thousand_latents(visit, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    p = read_profile("demo")
    cohort = prepare_cohort(p)
    run = fit(cohort, p.model, p.places.runs)
    file = write_page(tmp_path, explorer_data(p, cohort, run.model, run.folder.name))
    size = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    assert size <= 6e6, f"{size / 1e6:.2f} MB"
    page = visit(file)
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal(0, 1, (500, 8)), rng.uniform(-7, 7, (500, 8))])
    apart = 0.0
    for part in np.array_split(codes.astype(np.float32), 25):
        wanted = run.model.decode(part).reshape(len(part), -1)
        apart = max(apart, float(np.abs(decoded(page, part) - wanted).max()))
    print(f"{len(codes)} latents: at most {apart:.2g} apart; page {size / 1e6:.2f} MB")
    assert apart < 1e-3
