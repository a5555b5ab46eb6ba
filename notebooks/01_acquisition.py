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
profile = "demo"
brains = "simulated"  # or a folder of acquired, or of one's own registered, brains
orientation = "header"  # of one's own brains, or a code such as "asr"
atlas = "drawn"  # or a folder with the CCF's files
plane = 286  # AP index at 25 µm
n_brains = 1024  # simulated
height = 160  # pixels of a section
width = 224
artefact_share = 0.15
cohort_seed = 0
clip_pixels = True  # those brighter than the training brains' 99.9 % become white
drop_brains = False  # outliers are set aside
outlier_limit = 6.0  # robust standard deviations
latent_dim = 8
beta = 3.0
objective = "beta"
capacity = 20.0  # nats; of objective "capacity"
mmd_weight = 1000.0  # nats per image; of objective "mmd"
likelihood = "gaussian"
steps = "80x112: 800, 160x224: 500"  # or one number, at the cohort's size
batch_size = 16
optimiser = "muon"  # or "adam"
learning_rate = 4e-3  # of Adam
adam_beta2 = 0.99
muon_rate = 0.02
lr_warmup = 0.05  # share of each stage's steps
lr_cosine = True  # to zero over the last stage
kl_warmup = 0.5  # share of the first stage's steps
initialisation = "data"
precision = "auto"  # or "float32", "tf32", "bfloat16"
validate_every = 100  # steps
seed = 0
grid_betas = [1, 3, 10]
grid_latent_dims = [2, 4, 6, 8, 12, 16]
grid_seeds = [0, 1, 2]
shard_latent_dim = 8  # the row of the grid that chapter 5 fits
grid_height = 40
grid_width = 56
grid_steps = 1000
eval_height = 80  # the models of the evaluation: several fits each, at a size of their own
eval_width = 112
eval_steps = 1500
eval_seeds = [0, 1, 2]
curve_latent_dims = [2, 4, 6, 8, 12, 16, 30, 100]  # of Figs 2C and 2D
artefact_strengths = [0.25, 0.5, 0.75, 1.0]
n_graded = 20  # brains with every artefact at every strength
n_importance = 16  # samples of z a brain
fd_dim = 16  # components of the Fréchet distance's basis
rois = ["SSp", "HPF", "STR", "TH", "RSP", "HY"]
region_share = 0.01  # of the brain; smaller regions are no region of their own
n_weights = 5  # brightness weights a region
n_read = 48  # held-out brains of the receptive fields that stand beside chance
n_blobs = 100  # random regions of the null
c_max = 7.0  # prior standard deviations
c_step = 0.005
objectives = ["capacity", "total_correlation", "mmd"]  # beside the β-VAE's
varied_brains = [64, 256]  # training brains of other simulated cohorts
varied_artefact_shares = [0.0, 0.4]
new_brain = "simulated"  # or the file of a registered section
data = "../data"
runs = "../runs"
device = "auto"  # CUDA, else MPS, else CPU
together = 2  # models of the grid trained at once

# %% tags=["hide-cell"]
from brainvae_core.profile import read_parameters

p = read_parameters(globals())
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
        "height of a section (pixels)": p.height,
        "width of a section (pixels)": p.width,
        "size of a pixel (µm)": cohort.atlas.pixel_um,
        "regions shown": len(p.rois),
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
# chapter 2 suspects.

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
masks = cohort.atlas.roi_masks(p.rois)
print(f"roi_masks (n_rois, height, width) = {masks.shape}")
pixels = zip(p.rois, masks.sum(axis=(1, 2)), strict=True)
print("pixels:", ", ".join(f"{name} {count}" for name, count in pixels))

# %%
figures.fig_2a(
    mean_section,
    cohort.atlas.template,
    masks,
    p.rois,
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
from brainvae_core.stamp import stamp

stamp(p)
