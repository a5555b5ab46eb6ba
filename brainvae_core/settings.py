"""Everything a run can be told: the defaults are the demo's, a profile's YAML says what differs.

``read_settings(globals())`` in a notebook's second cell reads ``params/<profile>.yaml``, and lays
the names of the parameters cell and of the text ``settings`` over it, none of them twice.
"""

from __future__ import annotations

import difflib
import os
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, get_type_hints

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    create_model,
    field_validator,
)

from brainvae_core.models import BetaVAEConfig
from brainvae_core.models.config import as_steps
from brainvae_core.yaml12 import read_yaml

FOLDERS = ("params", "notebooks/params")  # as seen from the notebooks, and from the project
PATHS = ("cohort.brains", "cohort.atlas", "lab.brains")
PATHS += tuple(f"places.{name}" for name in ("data", "runs", "results", "reports"))
NOTEBOOK_NAMES = {"In", "Out", "exit", "quit", "open", "get_ipython"}
MODEL = BetaVAEConfig(steps=1000, validate_every=100)

Side = Annotated[int, Field(ge=5, le=8192)]
Shape = tuple[Side, Side]  # (height, width) in pixels
Count = Annotated[int, Field(ge=1, le=10**6)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
LatentDim = Annotated[int, Field(ge=1, le=4096)]
Steps = Annotated[int | tuple[tuple[int, int, int], ...], BeforeValidator(as_steps)]


class _Section(BaseModel, extra="forbid", frozen=True, strict=True, allow_inf_nan=False):
    @field_validator("*")
    @classmethod
    def _has_no_control_character(cls, value):
        texts = [t for t in (value if isinstance(value, tuple) else [value]) if isinstance(t, str)]
        if odd := [text for text in texts if re.search("[\0-\x1f\ud800-\udfff]", text)]:
            raise ValueError(f"{odd[0]!r:.80} has a character that no name has")
        return value


class CohortSettings(_Section):
    """Which brains, on which atlas, at which size."""

    brains: str = "simulated"  # or a folder of acquired, or of one's own registered, brains
    orientation: str = "header"  # of one's own brains: as their files say, or a code such as "asr"
    atlas: str = "drawn"  # or a folder with the CCF's files
    plane: Annotated[int, Field(ge=0, lt=528)] = 286  # AP index at 25 µm
    n_brains: Count = 1024  # simulated
    shape: Shape = (80, 112)
    artefact_share: Share = 0.15
    seed: Seed = 0
    clip_pixels: bool = True  # pixels brighter than the training brains' 99.9 % become white
    drop_brains: bool = False  # outliers are set aside: no fit and no score reads them
    outlier_limit: Positive = 6.0  # robust standard deviations; at 1e6 there is none


class GridSettings(_Section):
    """The β × L × seed grid."""

    betas: tuple[Annotated[float, Field(ge=0)], ...] = (1.0, 3.0, 10.0)
    latent_dims: tuple[LatentDim, ...] = (4, 8, 16)
    seeds: tuple[Seed, ...] = (0, 1, 2)
    shape: Shape = (40, 56)
    steps: Steps = 500
    wide_steps: Steps | None = None  # with more latents than the model's; None: as many


class EvaluationSettings(_Section):
    """Several fits of each model, the curve at the grid's size, and their scores."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    curve_latent_dims: tuple[LatentDim, ...] = (2, 4, 8, 16, 30)  # Figs 2C and 2D
    artefact_strengths: tuple[Positive, ...] = (0.25, 0.5, 0.75, 1.0)
    n_graded: Count = 20  # brains with every artefact; 4 × for spectra, likelihoods, usual errors
    n_importance: Count = 16  # samples of z a brain
    fd_dim: Count = 16  # components of the Fréchet distance's basis


class FieldsSettings(_Section):
    """Receptive and projective fields, and what they are compared with."""

    rois: tuple[str, ...] = ("SSp", "HPF", "STR", "TH", "RSP", "HY")
    region_share: Share = 0.01  # of the brain; smaller regions are no region of their own
    n_weights: Count = 5  # brightness weights a region
    n_read: Count = 48  # held-out brains of the receptive fields
    n_blobs: Count = 50  # random regions of the null, asked of 12 brains
    c_max: Positive = 7.0  # prior standard deviations
    c_step: Positive = 0.05
    truth_latent_dim: LatentDim = 16  # at least as many as factors are planted (chapter 10)
    truth_seeds: tuple[Seed, ...] = (0, 1, 2)
    n_rotations: Count = 100  # random axes of each fit in chapter 10


class LabSettings(_Section):
    """Brains that no model was fitted to, and what is asked of them (chapter 11)."""

    brains: str = "simulated"  # 12 and 12 planted; or a folder of registered brains, or one brain
    orientation: str = "header"  # as in the cohort's settings
    group: str = "group"  # the column of metadata.csv that tells the groups; "" asks about none
    covariates: tuple[str, ...] = ()  # other columns, whose part in a difference is taken out
    n_permutations: Annotated[int, Field(ge=19, le=10**6)] = 1999


class PlacesSettings(_Section):
    """Where and how. No claim depends on these; single fits do, on `device` and `results`."""

    data: str = "../data"
    runs: str = "../runs"
    results: str = "../results"  # runs that come with the project; elsewhere to fit them anew
    reports: str = "../_build/reports"
    device: str = "auto"  # CUDA, else MPS, else CPU
    together: Annotated[int, Field(ge=1, le=1024)] = 2  # models at once; a CPU's are one a thread


_ModelSettings = create_model(
    "ModelSettings",
    __base__=_Section,
    **{n: (t, getattr(MODEL, n)) for n, t in get_type_hints(BetaVAEConfig).items()}
    | {"steps": (Steps, MODEL.steps)},
)
_AsConfig = AfterValidator(lambda given: BetaVAEConfig(**vars(given)))


class Settings(_Section):
    """A profile: what is fitted and shown, and where it is kept."""

    profile: str = "demo"
    cohort: CohortSettings = CohortSettings()
    model: Annotated[_ModelSettings, _AsConfig] = MODEL  # a BetaVAEConfig, as `fit` takes it
    grid: GridSettings = GridSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    fields: FieldsSettings = FieldsSettings()
    lab: LabSettings = LabSettings()
    places: PlacesSettings = PlacesSettings()

    def changed(self, changes: Mapping[str, object], origin: str = "settings") -> Settings:
        """The same with other values, by name such as ``"model.beta"``, or ``"beta"``."""
        content = {s: dict(vars(getattr(self, s))) for s in SECTIONS}
        for given, value in changes.items():
            section, name = full_name(given, origin).split(".")
            content[section][name] = value
        return _settings({"profile": self.profile, **content}, origin)

    def flat(self) -> dict[str, object]:
        """Every setting by its full name."""
        return {f"{s}.{n}": v for s in SECTIONS for n, v in vars(getattr(self, s)).items()}

    def __str__(self):
        return "\n".join(f"{name:35} {value}" for name, value in self.flat().items())


SECTIONS = tuple(Settings.model_fields)[1:]
DEMO = Settings().flat()


def full_name(given: str, origin: str = "settings", about: str = "model") -> str:
    """A setting's name with its section: a name that several have is of what it is about.

    The lab's settings have short names only where it is about them.
    """
    for whole in (given, f"{about}.{given}"):
        if whole in DEMO:
            return whole
    found = [name for name in DEMO if name.partition(".")[2] == given and name[:4] != "lab."]
    if len(found) > 1:
        raise ValueError(f"{origin}: {given!r} may be {' or '.join(found)}; say which")
    if not found:
        raise _unknown(given, origin)
    return found[0]


def read_profile(profile: str | Path, enter: bool = False) -> Settings:
    """A profile's settings, from a file or by the name of one in ``params/``.

    With ``enter`` the working directory becomes the notebooks' folder, from where a profile's
    relative places are seen: that of the project one is in, else of the file's, else of this one.
    """
    path = Path(str(profile))
    if path.suffix not in (".yaml", ".yml"):
        path = Path(_folder()) / f"{profile}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise FileNotFoundError(f"no profile {path}; {path.parent} has {there}")
    try:
        text = path.read_text(encoding="utf-8")
        content = _tuples(read_yaml(text) or {})
    except OSError as error:
        raise ValueError(f"profile {path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"profile {path} is no YAML: {why}") from error
    if not text:
        raise ValueError(f"profile {path} is empty; for the defaults alone write a comment in it")
    if not isinstance(content, dict) or "profile" in content:
        raise ValueError(f"profile {path} must map sections to settings; its name is the file's")
    settings = _settings({"profile": path.stem, **content}, f"profile {path}")
    if enter and not os.path.isdir(FOLDERS[0]):
        there = (Path(FOLDERS[1]), path.resolve().parent, Path(__file__).parents[1] / FOLDERS[1])
        os.chdir(next((f.parent for f in there if f.name == "params" and os.path.isdir(f)), "."))
    return settings


def read_settings(
    namespace: Mapping[str, object], about: str = "model", show: bool = True
) -> Settings:
    """A notebook's settings from its ``globals()``, before anything else is defined.

    These are ``profile``, a name or the path of a YAML file; ``settings``, text such as
    ``"model.steps=2000, grid.seeds=[0, 1]"``; and settings by their own names, of which None is the
    profile's. ``show`` prints what is not as the profile says, and has a kernel that started in the
    project's root go on in ``notebooks/``, from where the profile's places are seen.
    """
    tools = types.ModuleType | types.FunctionType | type
    given = {
        name: value
        for name, value in namespace.items()
        if name[0] != "_" and name not in NOTEBOOK_NAMES and not isinstance(value, tools)
    }
    name = given.pop("profile", "demo")
    profile, changes = read_profile(_as_typed(name, Path(_folder()).glob("*.yaml"))), {}
    others = _assignments(given.pop("settings", "") or "")
    for short, value in (*given.items(), *others):
        name = full_name(short, "this notebook", about)
        if name in changes:
            raise ValueError(f"this notebook: {name} is given twice")
        if isinstance(value, _Text) or (isinstance(value, str) and value.startswith("[")):
            value = _read(str(value), is_text=isinstance(DEMO[name], str))
        if value is not None:
            changes[name] = _place(name, value) if name in PATHS else value
    settings = profile.changed(changes, "this notebook")
    if show:
        before = profile.flat()
        differs = [f"{n} = {value!r}" for n, value in settings.flat().items() if value != before[n]]
        print("; ".join([f"profile {profile.profile}", *differs]))
        if _folder() == FOLDERS[1]:
            os.chdir("notebooks")
    return settings


def _folder() -> str:
    """Where the profiles are: as seen from the notebooks, or else from the project's root."""
    return next(filter(os.path.isdir, FOLDERS), FOLDERS[0])


def _as_typed(value, paths):
    """papermill's -p makes a number of 2024_01: the name of the one path that reads as it."""
    if isinstance(value, str | Path):
        return value
    names = {path.stem if path.suffix == ".yaml" else path.name for path in paths}
    found = [name for name in names if _value_of_p(name) == value]
    return found[0] if len(found) == 1 else value


def _value_of_p(text):
    """What papermill makes of the text of a -p."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"True": True, "False": False, "None": None}.get(text, text)


def _place(name, value):
    """As it was typed; where that was in the project's root, as it is seen from the notebooks."""
    value = _as_typed(value, Path().iterdir())
    is_relative = isinstance(value, str) and not os.path.isabs(value) and value[:1] not in ("$", "")
    if _folder() == FOLDERS[1] and is_relative and (name[:6] == "places" or os.path.exists(value)):
        return os.path.relpath(value, "notebooks")
    return value


def _read(text, is_text):
    """The value of a text; a text of what is text, but for its quotes and null."""
    try:
        found = read_yaml(text)
    except yaml.YAMLError:
        return text  # stages, "80x112: 800, 160x224: 500", are read by the setting
    return text if is_text and not isinstance(found, str | None) else found


class _Text(str):
    """A value in the text ``settings``, as it was written."""


def _assignments(text) -> list[tuple[str, object]]:
    """Of ``"a.b=1, c=[2, 3]"``; a comma ends a value where a name and an equals sign follow."""
    found = []
    for part in filter(str.strip, re.split(r",(?=\s*[\w.]+\s*=)", str(text))):
        name, equals, value = (piece.strip(" \n,") for piece in part.partition("="))
        if not equals or not name:
            raise ValueError(f"settings: {part.strip()!r} must be name=value, such as model.beta=4")
        found.append((name, _Text(value)))
    return found


def _settings(content: dict, origin: str) -> Settings:
    try:
        return Settings(**_tuples(content))
    except ValidationError as error:
        problem = error.errors()[0]
    except TypeError:  # a key that is no text
        raise _unknown(next(k for k in content if not isinstance(k, str)), origin) from None
    where, given = problem["loc"], problem["input"]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)[1:]
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        raise _unknown(name, origin)
    if problem["type"] == "value_error":
        raise ValueError(f"{origin}: {name}: {problem['ctx']['error']}")
    example = DEMO.get(".".join(map(str, where[:2])))
    such = f", such as {example!r}" if example is not None else ""
    must = problem["msg"].replace("Input should be", "must be").replace("tuple", "list")
    if problem["type"] == "string_type":
        must = f"{must} (papermill's -r passes text as it is)"
    raise ValueError(f"{origin}: {name:.80}={given!r:.80} {must}{such}")


def _unknown(name, origin: str) -> ValueError:
    leaves = {known.partition(".")[2]: known for known in reversed(DEMO)}
    near = difflib.get_close_matches(str(name), DEMO, 1, 0.8)
    leaf = str(name).lower().split(".")[-1]
    near = near or [leaves[n] for n in difflib.get_close_matches(leaf, leaves)]
    offer = f"did you mean {near[0]}?" if near else f"the sections are {', '.join(SECTIONS)}"
    return ValueError(f"{origin}: unknown setting {name!r:.80}; {offer}")


def _tuples(value):
    """Lists as tuples, all the way down: settings are frozen."""
    if isinstance(value, Mapping):
        return {name: _tuples(part) for name, part in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
