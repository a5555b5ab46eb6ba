"""Registered brains, acquired or a lab's own, become a profile's cohort by parameters alone."""

import json

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from brainvae_core import prepare
from brainvae_core.cohorts import describe_orientation, drawn_atlas, known_factors, simulate
from brainvae_core.cohorts.allen import save_section
from brainvae_core.cohorts.atlas import AUTHORS_CROP
from brainvae_core.disk import digest_of
from brainvae_core.prepare import lab_brains, prepare_cohort
from brainvae_core.settings import Settings

N = 15


@pytest.fixture(scope="module")
def brains():
    """Sections as a microscope leaves them, (n, 320, 456) uint16, and the truth."""
    truth = simulate(N, drawn_atlas(), seed=3)
    gain = np.random.default_rng(0).uniform(0.6, 1.6, N)
    raw = np.zeros((N, 320, 456), dtype=np.uint16)
    raw[:, :, AUTHORS_CROP] = 2000 * gain[:, None, None] * truth.images
    return raw, truth


@pytest.fixture
def own(brains, tmp_path):
    folder = tmp_path / "lab"
    folder.mkdir()
    for i, section in enumerate(brains[0]):
        np.save(folder / f"mouse-{i:02}.npy", section)
    table = pd.DataFrame({"mouse": [f"mouse-{i:02}" for i in range(N)], "sex": ["F", "M", "M"] * 5})
    table.to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.fixture
def acquired(brains, tmp_path):
    folder = tmp_path / "allen"
    (folder / "sections").mkdir(parents=True)
    ids = [str(1000 - i) for i in range(N + 1)]
    table = pd.DataFrame({"id": ids, "sex": "F", "injection_dv": np.arange(N + 1.0)})
    table.assign(url="http://x/1", refused="").to_csv(folder / "experiments.csv", index=False)
    request = {"format": 2, "plane": 286, "channel": "red"}
    (folder / "request.json").write_text(json.dumps(request))
    for i, section in zip(ids[:N], brains[0], strict=True):
        facts = {"id": i, "url": "http://x/1", "crc32": 1, "bytes": 1, "zip_bytes": 3}
        save_section(folder, section, facts)
    why = f"brain {ids[N]}: no red volume at http://x/1"
    (folder / "refused.csv").write_text(f"id,url,reason\n{ids[N]},http://x/1,{why}\n")
    return folder


@pytest.fixture
def slice_of_the_drawn_atlas(monkeypatch):
    """What the simulated sections were drawn on, in place of a folder with the CCF."""
    monkeypatch.setattr(prepare, "open_atlas", lambda p: drawn_atlas())


atlas_of_the_brains = pytest.mark.usefixtures("slice_of_the_drawn_atlas")


def settings(tmp_path, atlas="a folder", **changes):
    given = {"cohort.shape": [80, 112], "data": str(tmp_path / "data"), "atlas": atlas}
    return Settings().changed(given | changes)


@atlas_of_the_brains
def test_registered_brains_become_the_cohort(own, acquired, brains, tmp_path):
    p = settings(
        tmp_path, brains=str(own), **{"lab.brains": str(own / "mouse-03.npy"), "lab.group": ""}
    )
    cohort, other = prepare_cohort(p), prepare_cohort(settings(tmp_path, brains=str(acquired)))
    assert cohort.images.shape == (N, 80, 112) and (cohort.name, other.name) == ("lab", "allen")
    assert np.array_equal(cohort.images, other.images)  # in the order of their tables
    assert cohort.metadata["sex"].tolist() == ["F", "M", "M"] * 5
    inside = cohort.images[:, cohort.atlas.brain_mask].mean(axis=1)
    assert np.ptp(inside) < 0.03 * inside.mean()  # the gains are undone, but for clipped pixels
    truth = brains[1].resampled((80, 112)).images
    for mine, true in zip(cohort.images, truth, strict=True):
        assert np.corrcoef(mine.ravel(), true.ravel())[0, 1] > 0.99
    one = lab_brains(p, cohort)
    assert np.array_equal(one.images[0], cohort.images[3])
    assert one.metadata.index.tolist() == ["mouse-03"]  # as in its folder
    np.save(tmp_path / "inverted.npy", 65_535 - brains[0][3])
    inverted = settings(tmp_path, **{"lab.brains": str(tmp_path / "inverted.npy"), "lab.group": ""})
    refused([("none of .*; inverted: section is .* outside", lab_brains, inverted, cohort)])
    assert other.refused == {str(1000 - N): "no red volume"}
    assert {"log_gain", "injection_dv"} <= set(known_factors(other))
    (acquired / "refused.csv").unlink()
    again = prepare_cohort(settings(tmp_path, brains=str(acquired)))
    assert again.refused == {str(1000 - N): "not tried yet; run make acquire again"}


@atlas_of_the_brains
def test_brains_that_are_dropped_leave_enough(own, brains, tmp_path):
    np.save(own / "mouse-05.npy", brains[0][5] * (np.arange(456) > 228))
    p = settings(tmp_path, brains=str(own), outlier_limit=20.0)
    (tmp_path / "data").write_text("a file")  # as root, who runs some tests, may write anywhere
    refused([("cohort cannot be kept in .*data .*give another folder with -p", prepare_cohort, p)])
    (tmp_path / "data").unlink()
    why = "the first 'mouse-05': set aside by drop_brains as an outlier: "
    words = f"^14 different brains are too few; give 15 or more; 1 were refused, {why}"
    refused([(words, prepare_cohort, p.changed({"drop_brains": True}))])
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").glob("lab-*"))
    assert len(prepare_cohort(p)) == 15
    np.save(own / "mouse-05.npy", brains[0][5])
    assert len(prepare_cohort(p.changed({"drop_brains": True}))) == 15


@atlas_of_the_brains
def test_turned_brains_are_told_whenever_the_cohort_is_opened(own, brains, tmp_path, capsys):
    np.save(own / "mouse-07.npy", brains[0][7][::-1])
    for _ in range(2):
        cohort = prepare_cohort(settings(tmp_path, brains=str(own), outlier_limit=50.0))
        assert f"{describe_orientation(cohort)}\n" in capsys.readouterr().out
    assert cohort.metadata["turned"].eq("none").sum() == N - 1
    assert cohort.metadata.at["mouse-07", "turned"] == "upside down"


def test_brains_that_make_no_cohort_say_why(own, acquired, tmp_path):
    lab, allen = {"brains": str(own)}, {"brains": str(acquired)}
    nowhere = settings(tmp_path, brains=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="make acquire"):
        prepare_cohort(nowhere)
    drawn = "the drawn atlas is for simulated brains at plane 286"
    (acquired / "request.json").write_text('{"format": 2, "plane": 250, "channel": "red"}')
    refused(
        [
            (drawn, prepare_cohort, settings(tmp_path, atlas="drawn", plane=250)),
            (drawn, prepare_cohort, settings(tmp_path, atlas="drawn", **lab)),
            ("holds plane 250, not plane 286", prepare_cohort, settings(tmp_path, **allen)),
        ]
    )
    assert not list((tmp_path / "data").glob("[!.]*"))
    (acquired / "manifest.jsonl").unlink()
    p = settings(tmp_path, plane=250, **allen)
    refused([("no brain is kept in .*; run python -m", prepare_cohort, p)])


@atlas_of_the_brains
def test_the_same_sections_acquired_otherwise_are_the_same_cohort(acquired, tmp_path):
    """Interrupted or in one go, in any order, on any day."""
    cohort = prepare_cohort(settings(tmp_path, brains=str(acquired)))
    lines = [json.loads(x) for x in (acquired / "manifest.jsonl").read_text().splitlines()]
    for line in lines:
        del line["line_sha256"]
        line["date"] = "2026-01-01T00:00:00+00:00"
        line["line_sha256"] = digest_of(line)
    (acquired / "manifest.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines[::-1]))
    other = prepare_cohort(settings(tmp_path / "other", brains=str(acquired)))
    assert other.fingerprint == cohort.fingerprint and other.metadata.equals(cohort.metadata)
