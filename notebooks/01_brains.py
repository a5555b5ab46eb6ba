# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · A cohort of brain sections
#
# **What do the data look like, and what is known about them?** One coronal section per mouse, all
# registered to one atlas slice. This chapter makes the cohort that the rest of the book reads. There
# are three places where it can come from, chosen by the parameter `brains`: the Allen cohort as
# [`make acquire`](../book/acquisition.md) left it, a folder of a lab's own registered brains, or, in the
# demo profile, a *simulated* one, whose brains differ by factors that we chose and therefore know. That
# lets the book ask later what no study of real brains can: did the analysis find what was planted?

# %% [markdown]
# Every notebook of the book has the cell below. papermill writes a profile's values and `-p` over
# them; a name that is not listed is refused.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
brains = None  # the profile's, as the next
atlas = None
plane = None
n_brains = None

# %% tags=["hide-cell"]
from brainvae_core.settings import read_settings

p = read_settings(globals())
print(p)

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.cohorts import ARTEFACTS, factor_extremes, known_factors
from brainvae_core.prepare import open_atlas, prepare_cohort
from brainvae_core.record import Record
from IPython.display import display

# %% [markdown]
# ## The atlas slice
#
# The **drawn atlas** ships with the project as closed-form curves that carry the Allen CCFv3's
# structure ids and acronyms, so that everything runs without a download. With
# `-p atlas <folder>` the real annotation and template of the same plane take its place.

# %%
atlas_slice = open_atlas(p)
print(f"annotation (height, width) = {atlas_slice.annotation.shape}")
print(f"{atlas_slice.pixel_um:g} µm per pixel")
print(atlas_slice.name, "·", atlas_slice.terms or "the project's own drawing")

# %%
cohort = prepare_cohort(p)
source = f"Cohort {cohort.name}, {len(cohort)} brains"
print(cohort)
images = cohort.images
print(f"images (n_brains, height, width) = {images.shape}, {images.dtype}")

# %%
parts = ("train", "validation", "test")
Record(
    {
        "brains of the cohort": len(cohort),
        **{f"{part} brains": len(cohort.split(part)) for part in parts},
        "height of a section (pixels)": p.cohort.shape[0],
        "width of a section (pixels)": p.cohort.shape[1],
        "size of a pixel (µm)": cohort.atlas.pixel_um,
        "regions shown": len(p.fields.rois),
    }
)

# %% [markdown]
# ## What was asked for, what is here
#
# An acquisition ends with a ledger. A brain is kept when its volume was read to the end and its checksum,
# size, type and grid agreed with what was promised; otherwise it is refused, with the reason. Simulated
# brains are all kept.

# %%
print(f"{len(cohort)} brains were kept, {len(cohort.refused)} were refused")
if cohort.refused:
    reasons = pd.Series(cohort.refused)
    display(figures.fig_ledger(len(cohort), reasons.value_counts()).made_from(source))
    print("\n".join(f"{brain}: {reason}" for brain, reason in reasons.items()))

# %% [markdown]
# The metadata of the first brains. In the simulated cohort sex, age and strain have effects on named
# factors; every brain has an injection site, and where a leak shows it lies there. A simulated site is
# given by its distance from the image's top and left edge.

# %%
names = {
    "age_days": "age (days)",
    "injection_structure": "injected structure",
    "injection_dv_um": "injection, from the top (µm)",
    "injection_ml_um": "injection, from the left (µm)",
    "artefact_strength": "strength of the artefact (1: full)",
}
cohort.metadata.head(4).convert_dtypes().rename(columns=names).T

# %% [markdown]
# ## Sections
#
# Three brains without an artefact, and one of each kind of artefact: a **leak** of the bright
# injection into the auto-fluorescence channel, a **breakage** (missing tissue) and a **grid** left
# by the scanner. In a simulated cohort the artefact is known; of real brains it is what the rule of
# chapter 1 suspects.

# %%
kind = cohort.metadata["artefact"].to_numpy()
clean_rows = np.flatnonzero(kind == "none")[:3]
corrupted_rows = [i for name in ARTEFACTS for i in np.flatnonzero(kind == name)[:1]]
rows = [*clean_rows, *corrupted_rows]

# %%
shown = {"pixel_um": cohort.atlas.pixel_um, "columns": 3}
figures.fig_sections(cohort.images[rows], list(kind[rows]), **shown).shows(
    "Three brains without an artefact, and one with each kind of artefact."
).made_from(source)

# %% [markdown]
# ## Fig. 2A · The average section and the regions
#
# The mean of the training brains is what every model has to beat. Beside it the template and the
# regions whose brightness the later chapters perturb: the paper's four named ones (SSp, HPF, STR, TH)
# and RSP and HY, which are our choice, since the paper used six and named four.

# %%
train = cohort.split("train")
training = f"Cohort {cohort.name}, {len(train)} training brains"
mean_section = train.images.mean(axis=0)
masks = cohort.atlas.roi_masks(p.fields.rois)
print(f"roi_masks (n_rois, height, width) = {masks.shape}")
pixels = zip(p.fields.rois, masks.sum(axis=(1, 2)), strict=True)
print("pixels:", ", ".join(f"{name} {count}" for name, count in pixels))

# %%
figures.fig_2a(
    mean_section,
    cohort.atlas.template,
    masks,
    p.fields.rois,
    pixel_um=cohort.atlas.pixel_um,
    cohort_name=cohort.name,
).made_from(training)

# %% [markdown]
# ## What is known of the brains
#
# In the simulated cohort the planted factors: each is standard normal over brains and acts through one
# known map, a gain of brightness or a displacement of tissue. Of real brains it is what was recorded:
# sex, injection, and how much the brightness had to be adjusted. Below, the mean of the 5 % of brains
# lowest and highest in each (at least one brain: of few brains that is noise). What they share averages
# out; what is left goes with the factor.

# %%
factors = known_factors(train)
uncorrupted = train.images if train.clean is None else train.clean
extremes = factor_extremes(factors, uncorrupted)
print(f"known of each brain (n_brains, n_factors) = {factors.shape}")
print(", ".join(factors))
print(f"5 % of the training brains: {max(len(train) // 20, 1)}")

# %%
steps = {"steps": ("lowest 5 %", "highest 5 %"), "pixel_um": cohort.atlas.pixel_um}
figures.fig_factors(extremes, mean_section, **steps).shows(
    "The 5 % of the training brains lowest and highest in each factor, as means."
).made_from(training)

# %% [markdown]
# Brightness factors colour whole regions, geometric ones only borders: a brain that is 0.1 mm wider
# differs from its neighbour along a thin line. Few pixels speak for the ventricles, and an error
# measured over all pixels hardly notices them.

# %% [markdown]
# **Found.** The demo's 1,024 brains differ by nine planted factors, texture, noise, three kinds of artefact and the site of the injection,
# and which of them is which is known. What moves brightness fills regions; what moves tissue shows only at borders, so most pixels say nothing of it. How sure: these are
# facts of a simulation and not findings about mice; of acquired brains this chapter shows what arrived and what was refused.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
