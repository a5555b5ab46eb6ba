"""The authors' release: an array as a cohort, a file from an address, the profile's chapters."""

import contextlib
import io
import platform
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from authors_release import AuthorsNetwork, answering, checkpoint, on_their_side
from executed import NOTEBOOKS, chapter
from raw_server import RawServer, answer, ranged
from refusals import refused

from brainvae_core import authors
from brainvae_core.cohorts import authors as released_files
from brainvae_core.cohorts import authors_cohort, drawn_atlas, open_cohort, simulate
from brainvae_core.cohorts.authors import fetch_file, read_authors_array
from brainvae_core.cohorts.web import FetchError, Meter, StoppedError
from brainvae_core.models import fit, load_run
from brainvae_core.prepare import (
    cohort_content,
    prepare_cohort,
    released_run,
    truth_cohort,
)
from brainvae_core.settings import Settings, read_profile
from brainvae_core.study import compared_configs, fitted

ROOT = Path(__file__).parent.parent
SHAPE = (40, 56)
SAMPLE = ("03", "07", "08")  # of the chapters; a night takes all
CHAPTERS = [
    pytest.param(p.stem, marks=[pytest.mark.nightly] if p.name[:2] not in SAMPLE else [])
    for p in sorted(NOTEBOOKS.glob("*.py"))
]


@pytest.fixture(scope="module")
def atlas():
    return drawn_atlas().resampled(SHAPE)


@pytest.fixture(scope="module")
def sections():
    return simulate(n_brains=60, shape=SHAPE, artefact_share=0.2, seed=3).images


def saved(path, array):
    np.save(path, array)
    return path


# ---- the array ----


def test_every_form_of_the_array_is_the_same_sections(tmp_path):
    whole = np.random.default_rng(0).random((3, 456, 320), dtype=np.float32)
    path = saved(tmp_path / "a.npy", whole)
    expected = np.stack([[[s[4 + ml, dv] for ml in (0, 5, 447)] for dv in (0, 319)] for s in whole])
    found = read_authors_array(path)
    assert found.shape == (3, 320, 448) and found.dtype == np.float32
    assert np.array_equal(found[:, [[0], [319]], [0, 5, 447]], expected)
    others = (whole[:, 4:452], whole[:, None, 4:452], np.asfortranarray(whole), whole.astype(">f4"))
    for i, other in enumerate(others):
        assert np.array_equal(read_authors_array(saved(tmp_path / f"{i}.npy", other)), found)


@pytest.mark.promise("nothing is unpickled: a file that is read cannot run code")
def test_other_arrays_are_refused_in_one_line(tmp_path):
    cut = saved(tmp_path / "cut.npy", np.zeros((4, 56, 40), np.float32)).read_bytes()[:-9]
    (tmp_path / "cut.npy").write_bytes(cut)
    np.savez(tmp_path / "many.npz", a=np.zeros(3), b=np.zeros(3))
    cases = [
        ("no array at", tmp_path / "none.npy"),
        ("no whole NPY file", tmp_path / "cut.npy"),
        ("several", tmp_path / "many.npz"),
    ]
    arrays = {
        r"float64 of shape \(4, 56, 40\)": np.zeros((4, 56, 40)),
        r"shape \(4, 40, 56\).*on their side": np.zeros((4, 40, 56), np.float32),
        r"shape \(4, 3, 56, 40\)": np.zeros((4, 3, 56, 40), np.float32),
        "no whole NPY file": np.array([{}], dtype=object),
    }
    for i, (message, array) in enumerate(arrays.items()):
        cases.append((message, saved(tmp_path / f"{i}.npy", array)))
    refused(
        (rf"{path.name} .*{words}|{words} .*{path.name}", read_authors_array, path)
        for words, path in cases
    )


def test_a_cohort_has_the_arrays_greys_and_what_is_found_in_them(tmp_path, sections, atlas):
    spoiled = sections.copy()
    spoiled[7], spoiled[11, 3, 4], spoiled[13] = 0.5, np.nan, 1 - sections[13]
    path = saved(tmp_path / "a.npy", on_their_side(spoiled)[:, None])
    cohort = authors_cohort(path, atlas)
    kept = np.delete(np.arange(60), [7, 11, 13])
    assert np.array_equal(cohort.images, spoiled[kept])
    assert list(cohort.metadata.index) == [f"brain-{i:04d}" for i in kept]
    assert set(cohort.refused) == {"brain-0007", "brain-0011", "brain-0013"}
    assert cohort.preprocessing is None and cohort.factors is None
    assert {"split", "artefact", "outlier", "leak_score"} <= set(cohort.metadata)
    hair = np.where(sections == sections.max(), np.nextafter(np.float32(1), 2), sections)
    turned = np.arange(60)[:, None, None] % 3 > 0
    others = {
        "greys .* to 1.00000012, outside.*save": hair,
        "greys from -0.1": sections - 0.1,
        "3 different brains are too few; give 15": sections[:3],
        "all 60 brains are refused; .* 'brain-0000': ": 1 - sections,
        "40 of 60 sections are no brains; brain-0001: ": np.where(turned, 1 - sections, sections),
    }
    for words, greys in others.items():
        path = saved(tmp_path / "b.npy", on_their_side(greys))
        refused([(f"b.npy.* {words}", authors_cohort, path, atlas)])


# ---- a file from an address ----


class ReleaseServer(RawServer):
    """Serves ``content`` at every address, and does wrong what ``faults`` say, one a request."""

    def __init__(self):
        super().__init__()
        self.content, self.etag = np.random.default_rng(0).bytes(3_000_000), '"one"'
        self.faults, self.ranges, self.sent, self.reply = [], [], 0, self.answered
        self.url += "/file?dl=1"

    def answered(self, request, _):
        fault = self.faults.pop(0) if self.faults else "ok"
        given = re.search(r"Range: bytes=(\d+)-\r", request)
        self.ranges.append(given and int(given[1]))
        if fault.isdigit():
            return answer(b"<html>no</html>", f"{fault} No")
        if fault == "moved":
            return answer(status="302 Found", Location="/login")
        if fault == "html" or request.startswith("GET /login"):
            return answer(b"\xef\xbb\xbf <!DOCTYPE html><html></html>")
        is_same = f"If-Range: {self.etag}\r" in request
        reply = ranged(self.content, request if is_same else "", ETag=self.etag or None)
        head, _, body = reply.partition(b"\r\n\r\n")
        body = body[: len(body) // 2] if fault == "short" else body
        if fault == "no_length":
            head = re.sub(rb"\r\nContent-Length: \d+", b"", head)
        if fault == "shifted":
            head = re.sub(rb"bytes (\d+)", lambda at: b"bytes %d" % (int(at[1]) + 3), head)
        self.sent += len(body)
        return head + b"\r\n\r\n" + body


@pytest.fixture
def server():
    with ReleaseServer() as running:
        yield running


def fetched(server, folder, content=None, **options):
    def check(path):
        if path.read_bytes() != (content or server.content):
            raise ValueError(f"{path} has other bytes")

    options = {"meter": Meter(sleep=lambda _: None), "timeout": 2} | options
    return fetch_file(server.url, folder / "file", check, **options)


@pytest.mark.parametrize("fault", ["ok", "short", "503", "429", "shifted", "no_length"])
def test_a_file_comes_whole_whatever_the_connection_does(server, tmp_path, fault):
    server.etag = "15862734d"  # as Dropbox has them
    server.faults = ["short", fault, fault] if fault != "no_length" else [fault]
    path = fetched(server, tmp_path)
    assert path.read_bytes() == server.content
    assert {f.name for f in tmp_path.iterdir()} == {"file", ".file.json"}
    assert server.sent < 1.1 * len(server.content) or fault == "shifted"  # it was gone on with
    n = len(server.ranges)
    assert fetched(server, tmp_path) == path and len(server.ranges) == n


@pytest.mark.promise("what was interrupted goes on, and nothing is made twice")
def test_what_was_stopped_is_gone_on_with(server, tmp_path):
    stop = Meter()
    stop.wait = lambda _: stop.stop.set() if stop.n > 1_000_000 else None
    stop.bytes_per_second = 1e9
    with pytest.raises(StoppedError):
        fetched(server, tmp_path, meter=stop)
    kept = (tmp_path / ".file.part").stat().st_size
    assert kept > 500_000 and not (tmp_path / "file").exists()
    server.faults = ["html"]
    with pytest.raises(FetchError, match="a web page"):
        fetched(server, tmp_path)
    fetched(server, tmp_path)
    assert server.ranges[-1] == kept


@pytest.mark.parametrize("etag", ['"two"', "", 'W/"one"'])
def test_another_file_is_begun_anew(server, tmp_path, etag):
    server.faults = ["short", "404"]
    with pytest.raises(FetchError):
        fetched(server, tmp_path)
    server.content, server.etag = np.random.default_rng(1).bytes(2_500_000), etag
    server.faults = ["short"]
    assert fetched(server, tmp_path).read_bytes() == server.content


def test_what_cannot_be_had_is_one_line_and_leaves_no_file(server, tmp_path):
    cases = {
        "HTTP 404 at http.*: the file was moved": ["404"],
        "HTTP 403 at http": ["403"],
        "a web page instead of a file came from [^,]*$": ["html"],
        "a web page instead of a file came from .*/file.*, which led to .*/login": ["moved"],
        "HTTP 503 at http.*, 3 times in a row; run the same command later": ["503"] * 3,
    }
    for message, faults in cases.items():
        server.faults = faults
        with pytest.raises(FetchError, match=message) as error:
            fetched(server, tmp_path, retries=2)
        assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
    with pytest.raises(FetchError, match=r"failed \(NewConnection\w+\) at http://127.0.0.1:9, 1"):
        fetch_file("http://127.0.0.1:9", tmp_path / "file", bool, retries=0)
    with pytest.raises(FetchError, match="not the file that is expected came.*: what came has"):
        fetched(server, tmp_path, content=b"other")
    assert not list(tmp_path.iterdir())


def test_a_dropbox_page_is_asked_for_as_a_file(tmp_path, monkeypatch):
    urls = []

    def fetch_on(session, url, part, *_):
        urls.append(url)
        part.write_bytes(b"x")

    monkeypatch.setattr(released_files, "_fetch_on", fetch_on)
    for i, end in enumerate(("?dl=0", "?dl=1", "?rlkey=a&dl=0")):
        fetch_file(f"https://www.dropbox.com/s/abc/x{end}", tmp_path / f"{i}", bool)
    assert [url.partition("?")[2] for url in urls] == ["dl=1", "dl=1", "rlkey=a&dl=1"]


# ---- the command, and what the profile reads ----

TINY = """
cohort: {{brains: {1}, atlas: {1}, n_brains: 60, shape: [40, 56]}}
model: {{latent_dim: 3, steps: 20, batch_size: 4}}
grid: {{betas: [1, 3], latent_dims: [2, 3], seeds: [0], steps: 15, shape: [40, 56]}}
evaluation:
  {{seeds: [0, 1], curve_latent_dims: [2, 3], n_graded: 4, n_importance: 3, fd_dim: 3}}
fields:
  {{n_blobs: 10, region_share: 0.05, n_weights: 3, n_read: 8, c_step: 0.5, truth_latent_dim: 8,
   n_rotations: 4}}
places: {{data: {0}/data, runs: {0}/runs, device: cpu}}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory, sections):
    """An array and a checkpoint of one size."""
    folder = tmp_path_factory.mktemp("downloads of a browser")
    array = saved(folder / "norm_brain_dataset_np_float32.npy", on_their_side(sections)[:, None])
    network = answering(AuthorsNetwork(3, 3, seed=1), sections)
    (folder / "checkpoint").write_bytes(checkpoint(network, legacy=True))
    return array, folder / "checkpoint"


@pytest.fixture(scope="module")
def release(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("made") / "authors"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        given = ["--array", str(files[0]), "--checkpoint", str(files[1])]
        assert authors.main([str(folder), *given]) == 0
    return folder, printed.getvalue()


@pytest.fixture(scope="module")
def profile(release, tmp_path_factory):
    """A tiny variant of the profile."""
    content = yaml.safe_load((ROOT / "notebooks/params/authors.yaml").read_text())
    folder = tmp_path_factory.mktemp("tiny")
    for section, values in yaml.safe_load(TINY.format(folder, release[0])).items():
        content[section] = content.get(section, {}) | values
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_command_leaves_a_cohort_and_a_run_and_says_what_they_are(
    release, files, sections, monkeypatch
):
    (folder, printed), (array, network) = release, map(str, files)
    cohort = open_cohort(folder / "cohort")
    assert np.array_equal(cohort.images, sections)
    (run,) = map(load_run, folder.glob("released_vae-*"))
    assert (run.config.latent_dim, run.config.steps) == (3, 10_000)
    assert np.isfinite(run.history[-1]["explained_variance"])
    assert "60 brains" in printed and "upside down" not in printed
    assert "WARNING: the model reconstructs these sections" in printed  # its weights are random
    turned = saved(files[0].with_name("turned.npy"), on_their_side(sections[:, ::-1]))
    told = authors.import_release(other := folder.with_name("turned"), str(turned), network)
    assert "better upside down" in told
    monkeypatch.setattr(authors, "ADDRESSES", {})  # nothing is asked for that is there
    shutil.rmtree(*other.glob("released_vae-*"))
    assert authors.import_release(other, None, network) == told
    shutil.rmtree(other / "cohort")
    refused([("are not of one release; delete", authors.import_release, other, array)])
    before = {f: f.stat().st_mtime_ns for f in folder.rglob("*")}
    for given in ((array, network), (array,), (None, network), ()):
        told = authors.import_release(folder, *given)
        assert told.splitlines()[:-1] == printed.splitlines()[:-1]
        assert told.splitlines()[-1] == f"nothing to do: all was in {folder}"
    assert {f: f.stat().st_mtime_ns for f in folder.rglob("*")} == before


def test_a_release_that_was_made_anew_is_known_by_content(files, sections, tmp_path):
    folder, (array, network) = tmp_path / "authors", files
    given = {"cohort.brains": str(folder), "places.data": str(tmp_path / "data")}
    p = Settings().changed(given | {"cohort.atlas": str(folder)})
    whole = p.changed({"cohort.brains": str(folder / "cohort")})
    other, another = tmp_path / "other", saved(tmp_path / "b.npy", on_their_side(sections[::-1]))
    other.write_bytes(checkpoint(AuthorsNetwork(3, 3, seed=2)))
    seen = []
    for sections_file, model_file in ((array, network), (array, other), (another, other)):
        left = folder / f".cohort~{platform.node()}~{2**22 + 1}~0"  # by a call that was killed
        left.mkdir(parents=True)
        authors.import_release(folder, str(sections_file), str(model_file))
        assert {f.name[:8] for f in folder.iterdir()} == {"cohort", "released"}
        seen.append((cohort_content(p), cohort_content(whole)))
        assert (cohort_content(p), cohort_content(whole)) == seen[-1]
        shutil.rmtree(folder)
    of_both, of_cohort = zip(*seen, strict=True)
    assert len(set(of_both)) == 3 and of_cohort[0] == of_cohort[1] != of_cohort[2]


@pytest.mark.slow
def test_the_beta_vae_of_the_profile_is_loaded_and_never_fitted(profile, release):
    p = read_profile(profile)
    cohort, config = prepare_cohort(p), compared_configs(p)["β-VAE"]
    (run,) = release[0].glob("released_vae-*")
    found = fit(cohort, config, p.places.runs, "cpu")
    assert found.folder == Path(p.places.runs) / run.name
    weights = [(at / "weights.safetensors").read_bytes() for at in (found.folder, run)]
    assert weights[0] == weights[1] and compared_configs(p)["VAE"].kind == "beta_vae"
    of = {}
    for labels, run_of in fitted(p, "evaluated", cohort):
        of.setdefault(labels["model"], []).append(run_of)
    assert [r.folder.name for r in of["β-VAE"]] == [run.name]
    assert [r.config.seed for r in of["β-VAE, fitted here"]] == [0, 1] and "PCA" in of
    assert truth_cohort(p, "planted").atlas.shape == SHAPE
    own = p.changed({"cohort.brains": str(release[0] / "cohort"), "latent_dim": 4})
    assert prepare_cohort(own).fingerprint == cohort.fingerprint
    assert compared_configs(own)["β-VAE"] == own.model
    assert released_run(own.changed({"cohort.brains": f"{release[0]}/cohort/"})) is None
    refused(
        [
            ("latent_dim=4: .* has 3", compared_configs, p.changed({"latent_dim": 4})),
            ("beta=4: .* has 3 and is not fitted", prepare_cohort, p.changed({"beta": 4.0})),
            ("plane=250: .* leave 286", prepare_cohort, p.changed({"plane": 250})),
            ("outlier_limit=3.* leave 6", prepare_cohort, p.changed({"outlier_limit": 3.0})),
            ("atlas=/a/ccf: .* give atlas=", prepare_cohort, p.changed({"atlas": "/a/ccf"})),
            ("orientation=asr: .* leave head", prepare_cohort, p.changed({"orientation": "asr"})),
        ]
    )


def test_what_cannot_be_made_is_one_line(release, files, tmp_path, capsys, server, monkeypatch):
    array, network = map(str, files)
    larger = tmp_path / "larger"
    larger.write_bytes(checkpoint(AuthorsNetwork(3, 4)))
    other = saved(tmp_path / "other.npy", np.load(array)[::-1])
    server.faults = ["404", "html", "404"]
    monkeypatch.setattr(authors, "ADDRESSES", dict.fromkeys(authors.ADDRESSES, server.url))
    links = "the authors' notebook .* links this address; or .* make authors ARRAY=/path/to/norm"
    give = r"; give its path: make authors {}=/path/to/"
    cases = [
        (["--array", "none.npy", "--checkpoint", network], "ARRAY=none.npy: no such file"),
        (["--array", "ftp://a/b", "--checkpoint", network], "ARRAY=ftp://a/b: a path, or an"),
        (
            ["--array", array, "--checkpoint", array],
            f"can be read as weights alone.*{give.format('CHECKPOINT')}checkpoint$",
        ),
        (
            ["--array", network, "--checkpoint", network],
            f"no whole NPY file .it is a pickle, as checkpoints are.*{give.format('ARRAY')}norm_",
        ),
        (["--array", array, "--checkpoint", str(larger)], "are 40 × 56, the network in .* 80 × "),
        (["--checkpoint", network], f"HTTP 404 at .*: the file was moved.*; {links}"),
        (["--checkpoint", network], f"a web page instead of a file came.*; {links}"),
        (["--array", array, "--checkpoint", server.url], "HTTP 404 .* make authors CHECKPOINT=/"),
        (["--array", array, "--checkpoint", server.url], "not the file that is expected came"),
    ]
    for given, message in cases:
        assert authors.main([str(tmp_path / "folder"), *given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(message, line), line
    given = ["--array", str(other), "--checkpoint", network]
    assert authors.main([str(release[0]), *given]) == 2
    assert "made from another array" in capsys.readouterr().err
    (tmp_path / "a file").touch()
    assert authors.main([str(tmp_path / "a file"), *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search("a file: File exists; .*, or give another folder with AUTHORS=folder", line)


@pytest.mark.workflow
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_reads_their_cohort_and_their_model(profile, release, name):
    printed, complaints, shown = chapter(name, profile=str(profile))
    # Chapter 10 is of simulated brains on their atlas.
    said = "drawn atlas in the CCF's place" if name[:2] == "10" else ", regions approximate)"
    assert said in printed and not complaints
    assert any(kind.startswith("image/") for kind in shown)
    (run,) = release[0].glob("released_vae-*")
    assert (Path(read_profile(profile).places.runs) / run.name).is_dir()
