"""What chapter 11 asks of groups: of two, of three, of a slope, of none, and of one brain."""

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from brainvae_core import lab, lab_groups
from brainvae_core.cohorts import (
    Cohort,
    clean_part,
    equalise_brightness,
    simulate,
    simulate_groups,
    suitability,
)
from brainvae_core.metrics import Judgement, brains_needed, smallest_difference
from brainvae_core.models import PCA
from brainvae_core.settings import Settings

P = Settings().changed(
    {
        "cohort.shape": (40, 56),
        "evaluation.n_graded": 4,
        "fields.region_share": 0.05,
        "lab.n_permutations": 99,
    }
)
COLUMNS = {
    "group": P,
    "three": P.changed({"lab.group": "three"}),
    "age_days": P.changed({"lab.group": "age_days"}),
}


@pytest.fixture(scope="module")
def reference():
    return simulate(80, shape=(40, 56), seed=0)


@pytest.fixture(scope="module")
def brains():
    made = simulate_groups(8, 7, "brightness TH", 2, shape=(40, 56), artefact_share=0)
    made.metadata["three"] = ["WT", "HET", "KO"] * 5
    return made


@pytest.fixture(scope="module")
def model(reference):
    return PCA.fit(reference.split("train").images, 3)


@pytest.fixture(scope="module")
def judgement(brains):
    kind = np.array(["none"] * 14 + ["leak"])
    return Judgement(np.zeros(15), kind, np.zeros(brains.images.shape, bool), np.zeros((15, 3)))


def compared(p, brains, model):
    groups = lab_groups.groups_to_compare(p, brains)
    codes = lab_groups.latent_codes(model, brains)
    measures = {"region": lab.region_means(p, brains), "latent": codes}
    table = lab_groups.compare_groups(p, brains, groups, measures)
    return groups, table, lab_groups.group_maps(brains, groups, table, codes, model)


def test_a_judge_learns_artefacts_in_sections_of_the_brightness_that_a_labs_have(
    reference, model, monkeypatch
):
    monkeypatch.setattr(lab, "ArtefactJudge", lambda *given: given)
    even = equalise_brightness(reference)
    _, _, planted = lab.train_artefact_judge(P, even, model)
    inside = even.atlas.brain_mask
    assert planted.images.shape == (3, 4, 4, 40, 56)
    means = planted.images[..., inside].mean(axis=-1)
    np.testing.assert_allclose(means, even.images[:, inside].mean(), rtol=0.02)  # white ends at 1
    tissue = ~planted.masks[0, -1, 0] & inside
    assert (planted.images[0, -1, 0] < planted.clean[0])[tissue].mean() > 0.99  # beside a leak


def test_a_region_of_another_brightness_is_not_called_damage(monkeypatch):
    """A knockout may have one. Without such brains among the ordinary ones it was."""
    cohort = equalise_brightness(simulate(300, shape=(80, 112), seed=4))
    model = PCA.fit(cohort.split("train").images, 8)
    images = clean_part(cohort, "test").images[:40]
    darker = [
        images * (1 - 0.3 * cohort.atlas.roi_masks(["SSp"], of)[0]) for of in ("both", "right")
    ]
    flagged = {}
    for shades in ((), lab.SHADES):
        monkeypatch.setattr(lab, "SHADES", shades)
        judge = lab.train_artefact_judge(P, cohort, model)
        flagged[shades] = [(judge(brains).kind != "none").mean() for brains in (images, *darker)]
    assert flagged[()][1] > 0.5
    assert max(flagged[lab.SHADES]) <= 0.05


@pytest.mark.parametrize("column", COLUMNS)
def test_two_groups_three_groups_and_a_slope(column, brains, model, judgement, reference):
    p = COLUMNS[column]
    groups, table, maps = compared(p, brains, model)
    inside = brains.atlas.brain_mask
    assert table["of"].value_counts()[["latent", "pixel"]].tolist() == [3, inside.sum()]
    assert list(table["measure"][table["of"] == "latent"]) == ["F1", "F2", "F3"]
    means = lab.region_means(p, brains)
    power = lab_groups.power_analysis(groups, means, means)
    counts, clear = lab_groups.clear_counts(table), lab_groups.clear_differences(table)
    assert counts["clear"].sum() == len(clear)
    assert counts["of"].to_dict() == table["of"].value_counts().to_dict()
    lines = lab_groups.describe_differences(brains, groups, table, judgement)
    assert f"of {counts.at['region', 'of']} regions" in lines and lines.endswith(": lab-0014")
    assert ("nothing is clear" in lines) == (len(clear) == 0)
    regions, clearest = table[table["of"] == "region"], lab_groups.top_regions(table)
    assert len(clearest) == len(regions) and clearest["sure"].sum() == (regions["q"] < 0.05).sum()
    rows = lab_groups.by_group(lab.region_means(p, brains), brains, groups)
    levels = {"group": ["WT", "KO"], "three": ["WT", "HET", "KO"]}.get(column)
    levels = levels or [f"{age:g}" for age in sorted(brains.metadata[column].unique())]
    assert list(dict.fromkeys(row.split(", ")[1] for row in rows.index)) == levels
    some = lab_groups.Groups(groups.design, np.arange(len(brains)) > 0, {})
    some = some._replace(design=groups.design._replace(matrix=groups.design.matrix[1:]))
    assert lab_groups.by_group(means, brains, some).index[-1] == f"{means.index[0]}, not compared"
    like = lab_groups.classify_difference(p, reference, brains, groups, judgement)
    assert lab_groups.describe_kind(like).startswith("it looks like: ")
    if column == "three":
        assert groups.design.contrast == "WT, HET, KO" and maps is None and power is None
        assert table["value"].isna().all() and table["effect"].notna().any()
        return
    assert (power is None) == (column == "age_days") == groups.design.contrast.startswith("per")
    decoded = maps.differences.pop("as the latents have it")
    ((contrast, by_pixel),) = maps.differences.items()
    assert contrast == groups.design.contrast and not by_pixel[~inside].any()
    if column == "group":
        is_ko = (brains.metadata["group"] == "KO").to_numpy()
        wanted = brains.images[is_ko].mean(axis=0) - brains.images[~is_ko].mean(axis=0)
        np.testing.assert_allclose(by_pixel[inside], wanted[inside], atol=1e-6)
        # PCA is linear: what it decodes of the mean codes is the difference of its reconstructions.
        seen = model.reconstruct(brains.images)
        wanted = seen[is_ko].mean(axis=0) - seen[~is_ko].mean(axis=0)
        np.testing.assert_allclose(decoded, wanted, atol=0.01)
        region = table[table["measure"] == "TH"].iloc[0]
        mean = lab.region_means(p, brains)["TH"].mean()
        assert region["percent"] == pytest.approx(100 * region["value"] / mean)
        assert region["name"] == "Thalamus" and region["percent"] > 5


def test_few_brains_and_a_dark_region_are_told_and_stop_nothing(brains, judgement):
    few = brains.select(np.r_[0:3, -3:0])
    groups = lab_groups.groups_to_compare(P, few)
    assert groups.n_smallest == 2
    table = lab_groups.compare_groups(P, few, groups, {"region": lab.region_means(P, few)})
    of_few = judgement._replace(kind=judgement.kind[np.r_[0:3, -3:0]])
    assert "fewer than 5 brains in a group" in lab_groups.describe_differences(
        few, groups, table, of_few
    )
    all_groups = lab_groups.groups_to_compare(P, brains)
    values = lab.region_means(P, brains).assign(dark=0.0)
    values.iloc[0, -1] = 1e-3
    power = lab_groups.power_analysis(all_groups, values, values * 0)
    assert "dark" in values and power.table["for 10 % by that"].isna().all()


def test_power_is_of_the_spread_within_the_groups(brains):
    groups = lab_groups.groups_to_compare(P, brains)
    values = pd.DataFrame(
        {"TH": np.tile([90.0, 110.0], 8)[:15], "same": 3.0}, brains.metadata.index
    )
    is_ko = (brains.metadata["group"] == "KO").to_numpy()
    values.loc[is_ko, "TH"] += 1000  # a difference is no spread
    usual = pd.DataFrame({"TH": [90.0, 100.0, 110.0], "same": [3.0, 3.1, 3.2]})
    power = lab_groups.power_analysis(groups, values, usual)
    rest = values["TH"] - values["TH"].groupby(is_ko).transform("mean")
    spread = 100 * np.sqrt(np.square(rest).sum() / 13) / values["TH"].mean()
    assert list(power.table.index) == ["TH"] and power.n_now == 7  # what does not vary says nothing
    assert power.table.iloc[0, 0] == pytest.approx(spread)
    wanted = smallest_difference(spread, 7, 8, n_measures=2)
    assert power.table["smallest difference with 7 + 8, %"].iloc[0] == pytest.approx(wanted)
    assert power.table["spread in the reference, %"].iloc[0] == pytest.approx(10)
    assert power.table["for 10 % by that"].iloc[0] == brains_needed(10, 10, n_measures=2)
    at = power.curve.set_index("n_per_group")["value"]
    assert at[12] == pytest.approx(smallest_difference(spread, 12, 12, n_measures=2))


def test_without_groups_nothing_is_compared_and_it_is_said(brains, judgement):
    nobody = P.changed({"lab.group": ""})
    assert lab_groups.groups_to_compare(nobody, brains) is None
    assert lab_groups.describe_differences(brains, None, None, judgement) == lab_groups.NOT_ASKED
    assert lab_groups.describe_kind(None) == lab_groups.NOT_ASKED
    alone = nobody.changed({"lab.covariates": ("sex",)})
    one = P.changed({"lab.group": "sex"}), brains.select([0])
    out = {f"m{i}": "upside down" for i in range(7)}
    text = r"sex is '.' for every brain.* Left out before: m0: upside down; .*m4: .*; and 2 more$"
    refused(
        [
            ("covariates sex are given, and no group", lab_groups.groups_to_compare, alone, brains),
            (r"sex is '.' for every brain.*out$", lab_groups.groups_to_compare, *one),
            (text, lab_groups.groups_to_compare, *one, out),
        ]
    )


def test_a_brains_row_holds_what_was_said_of_it_beside_its_own_columns(brains, model, reference):
    p = P.changed({"lab.group": ""})
    own = brains.metadata[["group", "sex"]].assign(used="by us", fit=3, gain=1.0)
    refused = {"m99": "no brain here, only a row in metadata.csv"}
    all_brains = Cohort(brains.images[:4], own[:4], brains.atlas, name="lab", refused=refused)
    checks = suitability(all_brains, reference).assign(unsuited="", unlike="")
    checks.iloc[1, checks.columns.get_loc("unsuited")] = "upside down"
    some = all_brains.select([0, 2, 3])
    kinds = Judgement(np.array([0.1, 0.9, 0.2]), np.array(["none", "leak", "none"]), None, None)
    deviations = (
        lab.region_deviations(p, reference, some),
        lab.tile_deviations(reference, some, model),
    )
    first, third = some.metadata.index[[0, 2]]
    groups = lab_groups.Groups(None, None, {third: "no sex"})
    table = lab.brain_table(all_brains, checks, groups, kinds, *deviations)
    assert table.loc["m99", "unsuited"] == refused["m99"] and not table.loc["m99", "used"]
    assert table.loc["m99", "TH_z":].isna().all() and table.index.name == own.index.name
    assert table.loc[third, "not_compared"] == "no sex"
    assert pd.isna(table.loc[first, "not_compared"])
    table = lab.brain_table(all_brains, checks, None, kinds, *deviations).iloc[:4]
    assert table["used"].tolist() == [True, False, True, True] and "not_compared" not in table
    assert table["used (table)"].eq("by us").all() and table["fit"].equals(checks["fit"])
    of = table[["artefact_kind", "whole_z", "TH_z", "norm_without"]]
    assert of.iloc[1].isna().all() and of["artefact_kind"].iloc[2] == "leak"
    np.testing.assert_allclose(table["TH_z"].iloc[[0, 2, 3]], deviations[0].z["TH"])
