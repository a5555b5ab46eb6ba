"""A lab's brains beside a reference: on its greys, and told where they are of another kind."""

import re

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_folder import TURNS, asymmetric_brains, write_lab
from refusals import refused
from scipy.ndimage import shift
from test_own import brainreg_folder

from brainvae_core.cohorts import (
    Cohort,
    Preprocessing,
    ccf_atlas,
    ccf_templates,
    comparable_brains,
    comparable_section,
    drawn_atlas,
    read_section,
    simulate,
    simulate_groups,
    suitability,
)
from brainvae_core.cohorts.lab import GAIN
from brainvae_core.prepare import lab_brains, lab_content
from brainvae_core.settings import Settings, read_profile

SHAPE = (80, 112)
INSIDE = drawn_atlas().resampled(SHAPE).brain_mask


@pytest.fixture(scope="module")
def reference():
    return simulate(120, shape=SHAPE, seed=0)


@pytest.fixture(scope="module")
def lab():
    return simulate_groups(12, 12, "ventricle", 1, shape=SHAPE, seed=0)


def table(n, **columns):
    return pd.DataFrame(columns, index=pd.Index([f"m{i}" for i in range(n)], name="brain"))


def inverted(section, inside=INSIDE):
    """White matter bright, around it dark as before."""
    return np.where(inside, np.percentile(section[inside], 99.9) - section, 0).clip(0)


def check_lab(sections, reference, planes=None, **columns):
    brains = comparable_brains(sections, table(len(sections), **columns), reference)
    assert not brains.refused
    return suitability(brains, reference, planes)


# ---- on the reference's greys ----


def test_brains_come_out_as_each_section_does_and_keep_what_is_known_of_them(reference, lab):
    gains = np.linspace(0.5, 9_000, len(lab))
    brains = comparable_brains(lab.images * gains[:, None, None], lab.metadata, reference)
    greys = Preprocessing.of(reference)
    for image, section in zip(brains.images, lab.images, strict=True):
        np.testing.assert_allclose(
            image, comparable_section(section, reference.atlas, greys), atol=1e-6
        )
    pd.testing.assert_frame_equal(brains.metadata[[*lab.metadata]], lab.metadata)
    wanted = greys.brightness / (lab.images[:, INSIDE].mean(axis=1) * gains)
    np.testing.assert_allclose(brains.metadata[GAIN], wanted, rtol=1e-5)
    assert brains.atlas is reference.atlas and not brains.refused
    assert brains.preprocessing == greys.to_dict() and brains.factors is None
    one = comparable_brains(lab.images[:1], lab.metadata[:1], reference, name="mouse")
    assert len(one) == 1 and one.name == "mouse" and "split" not in one.metadata


def test_rows_without_a_brain_a_missing_table_and_a_drawn_atlas_are_told(tmp_path, capsys):
    shape, folder = (40, 56), tmp_path / "lab"
    write_lab(folder, simulate_groups(2, 2, shape=shape))
    (folder / "lab-0002.npy").unlink()
    p = Settings().changed({"cohort.shape": shape, "lab.brains": str(folder)})
    reference = simulate(20, shape=shape, seed=0)
    brains = lab_brains(p, reference)
    assert brains.refused == {"lab-0002": "no brain here, only a row in metadata.csv"}
    assert "the atlas of profile demo is drawn" in capsys.readouterr().out
    (folder / "metadata.csv").unlink()
    refused([("has no metadata.csv, which is to tell group of each", lab_brains, p, reference)])
    assert len(lab_brains(p.changed({"lab.group": ""}), reference)) == 3
    assert read_profile("ccf").lab.group == ""  # its one brain is in no group


def test_a_folder_of_brainreg_outputs_is_a_lab_and_each_of_them_a_brain(tmp_path):
    made, folder = simulate_groups(1, 1, shape=(40, 56)), tmp_path / "lab"
    for brain, image in zip(made.metadata.index, made.images, strict=True):
        volume = np.tile(np.pad(image, ((0, 0), (0, 1))), (66, 1, 1))
        brainreg_folder(folder / brain, volume)
    made.metadata["group"].to_csv(table := folder / "metadata.csv")
    given = {"lab.brains": str(folder), "data": str(tmp_path / "data")}
    p, reference = Settings().changed(given), simulate(20, shape=(40, 56), seed=0)
    brains, before = lab_brains(p, reference), lab_content(p)
    assert brains.metadata["group"].to_dict() == made.metadata["group"].to_dict()
    table.write_text(table.read_text() + "\n")
    assert lab_content(p) != before
    one = p.changed({"lab.brains": str(folder / "lab-0001"), "lab.group": ""})
    assert lab_brains(one, reference).metadata.index.tolist() == ["lab-0001"]
    asked = one.changed({"lab.group": "group"})
    refused([("is one brain, which has no groups: leave group", lab_brains, asked, reference)])


def test_what_cannot_be_compared_is_named_with_why(reference, lab):
    good, half, nan = lab.images[0], lab.images[1][:40], lab.images[2].copy()
    nan[3, 4] = np.nan
    black, offset = np.zeros(SHAPE), 1 - lab.images[3]
    before = {"m9": "not read"}
    brains = comparable_brains(
        [good, half, nan, black, offset], table(5), reference, refused=before
    )
    assert brains.metadata.index.tolist() == ["m0"] and before == {"m9": "not read"}
    for brain, why in {
        "m9": "not read",
        "m1": r"shape \(40, 112\) does not fit",
        "m2": "NaN or infinite",
        "m3": "no brightness",
        "m4": "outside has to be dark",
    }.items():
        assert re.search(why, brains.refused[brain]), brain
    assert len(brains.refused) == 5


@pytest.mark.parametrize("form", ["pixel by pixel", "brighter", "whole numbers"])
def test_copies_under_two_names_are_named_and_counted_once(reference, lab, form):
    make = {
        "pixel by pixel": lambda s: s.copy(),
        "brighter": lambda s: s * 7,
        "whole numbers": lambda s: np.rint(s * 250).astype(np.uint8),
    }[form]
    sections = [*lab.images[:4], make(lab.images[1]), make(lab.images[2])]
    recorded = table(6, sex=["F", "M", None, "F", "M", None], age=[1, 2, np.nan, 3, 2, np.nan])
    brains = comparable_brains(sections, recorded, reference)
    assert brains.metadata.index.tolist() == ["m0", "m1", "m2", "m3"]
    reason = "it has the same pixels as m{}, which is taken; remove one of them"
    assert brains.refused == {"m4": reason.format(1), "m5": reason.format(2)}


def test_of_copies_whose_rows_differ_none_is_taken(reference, lab):
    sections = [*lab.images[:3], lab.images[1], lab.images[1]]
    columns = {"group": ["a", "a", "b", "b", "a"], "age": [1, 2, 3, 2, np.nan]}
    brains = comparable_brains(sections, table(5, **columns), reference)
    assert brains.metadata.index.tolist() == ["m0", "m2"]
    assert brains.refused["m3"].startswith("it has the same pixels as m1 and another group; give")
    assert brains.refused["m4"].startswith("it has the same pixels as m1 and another age; give")
    assert brains.refused["m1"].startswith("it has the same pixels as m")
    one, two = lab.images[:2]  # m3 is like m1, and neither is taken
    brains = comparable_brains(
        [one, two, two, two], table(4, group=["a", "a", "b", "a"]), reference
    )
    assert brains.metadata.index.tolist() == ["m0"]
    reason = "it has the same pixels as m2 and another group; give"
    assert all(brains.refused[brain].startswith(reason) for brain in ("m1", "m3"))


# ---- whether they can be judged ----


def test_brains_of_the_reference_kind_are_suited_whatever_their_units(reference):
    labs = [("none", 0, "anatomical"), ("damage", 1, "freeform"), ("plane", 2, "anatomical")]
    for effect, size, simulator in (*labs, ("brightness", -2, "freeform")):
        made = simulate_groups(12, 12, effect, size, shape=SHAPE, simulator=simulator)
        gains = np.geomspace(1e-3, 1e6, 24)
        found = check_lab(made.images * gains[:, None, None], reference)
        assert found["unsuited"].eq("").all(), effect
        assert found["contrast"].eq("as the reference").all()
        assert found["turned"].eq("sides cannot be told").all()  # the drawn atlas is symmetric
        assert found["plane"].isna().all() and found["gain"].is_monotonic_decreasing
        if effect == "none":
            assert found["unlike"].eq("").all() and found["fit_z"].abs().median() < 1.5


def test_the_fit_is_the_correlation_with_the_mean_brain(reference, lab):
    found = check_lab(lab.images, reference)
    mean = reference.split("train").images.mean(axis=0)[INSIDE]
    wanted = [np.corrcoef(image[INSIDE], mean)[0, 1] for image in lab.images]
    np.testing.assert_allclose(found["fit"], wanted, atol=1e-5)


@pytest.fixture(scope="module")
def asymmetric():
    """A reference and nine sections, on an atlas whose midline lies off the grid's."""
    atlas, images = asymmetric_brains(39, 0.7, 0.4, 0.1)
    images = images.clip(0, 1)
    return Cohort(images[:30], table(30), atlas).with_split(0), images[30:]


@pytest.mark.parametrize("is_inverted", [False, True])
@pytest.mark.parametrize("how", TURNS)
def test_what_lies_wrong_or_is_inverted_is_named(asymmetric, how, is_inverted):
    reference, images = asymmetric
    sections = [inverted(s) for s in images] if is_inverted else images
    found = check_lab([np.ascontiguousarray(TURNS[how](s)) for s in sections], reference)
    assert found["turned"].eq(how).all()
    assert found["contrast"].eq("inverted" if is_inverted else "as the reference").all()
    words = [how] * (how != "none") + ["contrast inverted, such as white"] * is_inverted
    assert found["unsuited"].ne("").all() == bool(words)
    for word in words:
        assert found["unsuited"].str.contains(word).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_what_is_no_section_of_this_kind_is_another_modality(reference, seed):
    rng = np.random.default_rng(seed)
    rough, blank = rng.random(SHAPE) * INSIDE, INSIDE * 1.0
    found = check_lab([rough, blank + 1e-3 * rough, np.roll(rough, 1)], reference)
    assert found["contrast"].eq("other").all()
    number = r"0\.\d\d"
    pattern = (
        f"another plane or modality: correlation -?{number}, reference brains {number}–{number}"
    )
    assert found["unsuited"].str.fullmatch(f"{pattern}; not scored").all()


def test_a_plane_is_told_by_templates(reference, lab):
    atlas = reference.atlas
    planes = {286 + 5 * k: shift(atlas.template, [2 * k, 0], order=1) for k in range(-4, 5)}
    ordinary = lab.images.mean(axis=0)
    sections = [shift(ordinary, [2 * k, 0], order=1) for k in (-4, 0, 1, 3)]
    for finer in (1, 2):
        given = {p: t.repeat(finer, 0).repeat(finer, 1) for p, t in planes.items()}
        found = check_lab(sections, reference, given)
        assert found["plane"].tolist() == [266, 286, 291, 301]
        assert found["unsuited"].ne("").tolist() == [True, False, False, True]
        assert "more like plane 266 than like the reference's 286" in found["unsuited"].iloc[0]


@pytest.mark.slow
def test_real_brains_and_what_was_made_of_them(real_data):
    atlas, folder = ccf_atlas(real_data), real_data / "individuals"
    reference = simulate(40, atlas, SHAPE, seed=0)
    inside = np.pad(atlas.brain_mask, ((0, 0), (4, 4)))
    two_photon = read_section(folder / "swcA_stpt_ccf50.tif")
    other = read_section(folder / "swcC_section_ccf25_ap293.tif")
    planes = ccf_templates(real_data)
    stored = tifffile.imread(real_data / "ccf/average_template_25_ap246-326.tif")
    assert list(planes) == list(range(246, 327, 4))
    assert all(np.array_equal(planes[p], stored[p - 246, :, 4:452]) for p in planes)
    sections = {
        "two-photon": two_photon,
        "section": other,
        "inverted and down": inverted(two_photon, inside)[::-1],
        "inverted section": inverted(other, inside),
        "plane 246": read_section(folder / "swcA_stpt_ccf50.tif", plane=246),
        "plane 306": stored[60].astype(float),
    }
    metadata = pd.DataFrame(index=pd.Index(sections, name="brain"))
    brains = comparable_brains([*sections.values()], metadata, reference)
    assert not brains.refused
    found = suitability(brains, reference, planes)
    why = found["unsuited"]
    assert why["two-photon"] == why["section"] == ""
    assert found["unlike"][["two-photon", "section"]].str.match("^correlation 0.[45]").all()
    assert found.at["two-photon", "plane"] == 286 and abs(found.at["section", "plane"] - 293) < 8
    for brain in ("inverted section", "inverted and down"):
        assert "contrast inverted" in why[brain]
        assert ("upside down" in why[brain]) == ("down" in brain)
    assert why["plane 246"].startswith("another plane or modality: correlation 0.2")
    assert why["plane 306"].startswith("more like plane 306 than like the reference's 286")


def test_what_is_no_lab_is_refused(reference, lab):
    twice = lab.metadata.set_axis(["m0"] * len(lab))
    none = "^none of the 2 brains of 'lab' can be compared; m0: section has no brightness"
    cases = [
        ("ids of cohort 'lab' must be unique", lab.images, twice),
        (none, np.zeros((2, *SHAPE)), table(2)),
    ]
    refused([(told, comparable_brains, *given, reference) for told, *given in cases])
