"""What is told of a lab's brains before all else, and how a report takes an earlier one's place."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lab_folder import write_lab
from PIL import Image
from refusals import refused

from brainvae_core import lab
from brainvae_core.cohorts import comparable_brains, simulate, suitability
from brainvae_core.cohorts.cohort import SPLITS
from brainvae_core.disk import made_with
from brainvae_core.figures import fig_deviations
from brainvae_core.lab_groups import groups_to_compare
from brainvae_core.prepare import prepare_cohort
from brainvae_core.settings import Settings, read_profile

SHAPE = (40, 56)


@pytest.fixture(scope="module")
def reference():
    return simulate(40, shape=SHAPE, seed=0)


def a_hundred(reference, n=100):
    images = simulate(n, shape=SHAPE, seed=5, artefact_share=0).images
    table = pd.DataFrame({"group": ["WT", "KO"] * (n // 2)}, [f"m{i}" for i in range(n)])
    return comparable_brains(
        images, table, reference, name="my lab", refused={"m7.txt": "no brain"}
    )


def settings(tmp_path, **changes):
    return Settings().changed(
        {"reports": str(tmp_path / "reports"), "lab.brains": "/a/my lab"} | changes
    )


def test_what_is_left_out_is_told_first_and_what_for_the_others_are_used(reference, tmp_path):
    all_brains = a_hundred(reference, 12)
    all_brains.metadata.loc["m3", "group"] = None
    checks = suitability(all_brains, reference).assign(unsuited="", unlike="")
    checks.loc["m1", "unsuited"], checks.loc["m2", "unlike"] = "upside down", "correlation 0.40"
    brains = all_brains.select((checks["unsuited"] == "").to_numpy())
    p = settings(tmp_path)
    lines = lab.describe_brains(p, all_brains, checks, groups_to_compare(p, brains)).splitlines()
    assert lines == [
        "left out: 2; brains used: 11",
        "m7.txt is left out: no brain",
        "m1 is left out: upside down",
        "m3 is not compared: no group",
        "KO − WT: 10 brains; terms: intercept, group KO",
        "m2 is unlike the reference: correlation 0.40",
    ]
    lines = lab.describe_brains(p, all_brains, checks, None).splitlines()
    assert lines[3] == "no groups are asked about: none are compared"


def test_a_hundred_brains_are_told_how_to_fit_models_to_them(reference, tmp_path, monkeypatch):
    all_brains, atlas = a_hundred(reference), str(reference.save(tmp_path / "an atlas"))
    folder = write_lab(tmp_path / "my lab", all_brains)
    checks = suitability(all_brains, reference).assign(unsuited="", unlike="")
    p = settings(tmp_path, **{"cohort.atlas": atlas, "lab.brains": str(folder)})
    lines = lab.describe_brains(p, all_brains, checks, None).splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith("100 brains are enough")]
    assert lines[at + 2] == "  make book PROFILE=own_my_lab"
    # The command, as a shell takes it, writes a profile of these brains, which makes their cohort.
    Path(tmp_path, "notebooks/params").mkdir(parents=True)
    subprocess.run(["sh", "-c", lines[at + 1]], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    own = read_profile("own_my_lab")
    assert own.cohort.orientation == "header"
    cohort = prepare_cohort(own.changed({"cohort.shape": SHAPE, "data": f"{tmp_path}/data"}))
    assert len(cohort) == 100 and set(cohort.metadata["split"]) == set(SPLITS)
    assert "plane" not in lines[at + 1]
    assert "plane: 250" in lab.fit_commands(p.changed({"cohort.plane": 250}), "my lab", 100)[1]
    drawn = p.changed({"cohort.atlas": "drawn", "lab.orientation": "asr"})
    commands = lab.fit_commands(drawn, "my lab", 100)
    assert "for ATLAS give a folder" in commands[0] and 'orientation: "asr"' in commands[1]
    checks.loc["m0", "unsuited"] = "upside down"
    assert "are enough" not in lab.describe_brains(p, all_brains, checks, None)
    assert lab.fit_commands(settings(tmp_path, **{"lab.brains": "simulated"}), "example", 500) == []


@pytest.mark.promise("what is written appears whole or not at all")
def test_a_report_is_there_as_a_whole_or_not_at_all(tmp_path):
    p, broken = settings(tmp_path), {"a.csv": pd.DataFrame({"x": [1]}), "b.png": "no figure"}
    with pytest.raises(AttributeError):
        lab.save(p, "my lab", broken)
    assert not list(Path(tmp_path, "reports").iterdir())
    table = pd.DataFrame({"x": [1.5]}, pd.Index(["m1"], name="brain"))
    files = {"a.csv": table, "z.npz": {"x": np.eye(2)}, "none.csv": None}
    files["b.png"] = fig_deviations(pd.DataFrame(np.eye(3)))
    folder = lab.save(p, "my lab", files, {"cohort": "0a1b"})
    assert {f.name for f in folder.iterdir()} == {"a.csv", "z.npz", "b.png", lab.ABOUT}
    pd.testing.assert_frame_equal(pd.read_csv(folder / "a.csv", index_col=0), table)
    assert (np.load(folder / "z.npz")["x"] == np.eye(2)).all()
    about = json.loads((folder / lab.ABOUT).read_text())
    assert about["brains"] == "/a/my lab" and about["made_from"] == {"cohort": "0a1b"}
    assert about["made"] == made_with()
    with Image.open(folder / "b.png") as picture:
        found = json.loads(picture.text["Description"])
    assert found == {name: about[name] for name in found} and {"brains", "made"} <= found.keys()
    with pytest.raises(AttributeError):
        lab.save(p, "my lab", broken)
    assert {f.name for f in folder.iterdir()} == {"a.csv", "z.npz", "b.png", lab.ABOUT}
    assert lab.save(p, "my lab", {"a.csv": table}) == folder  # of the same brains: nothing is mixed
    assert {f.name for f in folder.iterdir()} == {"a.csv", lab.ABOUT}


def test_a_report_takes_no_place_of_other_brains_or_of_another_question(tmp_path):
    reports = tmp_path / "reports"
    first, second = (settings(tmp_path, **{"lab.brains": f"/{of}/my lab"}) for of in "ab")
    third = first.changed({"lab.covariates": ("sex",)})
    fourth = first.changed({"lab.orientation": "asr"})
    for _ in range(2):
        for n, p in enumerate((first, second, third, fourth), 1):
            assert lab.save(p, "my lab", {}) == reports / ("my lab" if n == 1 else f"my lab-{n}")
    Path(reports, "other").mkdir()  # of which nothing is known
    assert lab.save(first, "other", {}) == reports / "other-2"
    Path(reports, "other", lab.ABOUT).write_text("[")
    assert lab.save(first, "other", {}) == reports / "other-2"
    own, link = tmp_path / "own", tmp_path / "link"
    own.mkdir()
    link.symlink_to(own)
    own_p, link_p = (settings(tmp_path, **{"lab.brains": str(path)}) for path in (own, link))
    assert lab.save(own_p, "own", {}) == lab.save(link_p, "own", {}) == reports / "own"


def test_an_end_between_two_folders_puts_the_earlier_one_back(tmp_path, monkeypatch):
    for path in (new := tmp_path / ".x/own", folder := tmp_path / "own"):
        path.mkdir(parents=True)
        Path(path, "page").write_text(str(path))
    replace, ends = lab.os.replace, iter([False, True, False])

    def interrupted(one, other):
        if next(ends):
            raise KeyboardInterrupt
        replace(one, other)

    monkeypatch.setattr(lab.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab.publish_report(new, tmp_path)
    assert Path(folder, "page").read_text() == str(folder) and Path(new, "page").exists()


def test_what_a_kill_between_two_folders_left_is_put_back_under_its_own_name_alone(tmp_path):
    p, reports = settings(tmp_path, **{"lab.brains": "/a/mice"}), tmp_path / "reports"
    others = {".mice.v2.before", ".mice.v2~mice.v2~before", ".mice-2~mice-2~before"}
    for name in (".mice~mice~before", ".mice-3~mice~before", *others):
        (reports / name).mkdir(parents=True)
    folder = lab.save(p, "mice", {})
    assert {path.name for path in reports.iterdir()} == {"mice", "mice-3", folder.name} | others


@pytest.mark.parametrize("file", ["brains.csv", lab.ABOUT])
def test_a_damaged_report_is_told_in_a_line_and_stays_beside_the_new_one(tmp_path, capsys, file):
    p, files = settings(tmp_path), {"brains.csv": pd.DataFrame({"x": range(3)})}
    folder = lab.save(p, "my lab", files)
    lab.add_page(folder, "<p>1</p>")
    assert lab.read_report(folder)["files"].keys() == {"brains.csv", "report.html"}
    content = bytearray(Path(folder, file).read_bytes())
    content[len(content) // 2] ^= 1
    Path(folder, file).write_bytes(content)
    for page in (lab.read_report, lambda folder: lab.add_page(folder, "<p>2</p>")):
        refused([(f"my lab/{file} is damaged.*is written anew beside it", page, folder)])
    assert lab.save(p, "my lab", files) == tmp_path / "reports/my lab-2"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {folder / file} is damaged")
    assert Path(folder, file).read_bytes() == content
