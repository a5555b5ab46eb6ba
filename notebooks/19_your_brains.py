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
# # 19 · Your own brains
#
# **Which of these brains can be used, which are unusual, and in what do two groups differ?** The chapter takes a folder of
# registered brains and a table of them. No model is fitted to them: a large reference cohort says what is usual, and a model of that cohort
# finds artefacts. In the demo profile the folder holds 12 wild types and 12 knockouts that were simulated; what was planted in them is
# told at the end.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file: the reference cohort and its model
settings = ""  # others, such as "lab.n_permutations=9999, lab.orientation=asr"
brains = None  # a folder of registered brains, or one brain
group = None  # the column of metadata.csv that tells the groups; "" where there are none
covariates = None  # other columns, such as ["sex", "age_days"]

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals(), about="lab")

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.cohorts import clean_part, graded_artefacts, suitability
from brainvae_core.fields import region_brightness
from brainvae_core.metrics import (
    ArtefactJudge,
    Norm,
    brains_needed,
    cleaned,
    design_of,
    group_differences,
    power_curve,
    smallest_difference,
    usable_brains,
)
from brainvae_core.models import fit
from brainvae_core.prepare import lab_brains, prepare_cohort
from brainvae_core.record import Record
from brainvae_core.study import compared_configs
from IPython.display import display

# %%
reference = prepare_cohort(p)
model = fit(reference, compared_configs(p)["β-VAE"], p.places.runs, p.places.device).model
came = lab_brains(p, reference)
out = Path(p.places.reports) / came.name
out.mkdir(parents=True, exist_ok=True)
print(came)

# %% [markdown]
# ## What is left out
#
# A brain is left out of everything below where it cannot be read, or where it is no section such as the model knows: upside down, mirrored,
# of another contrast, plane or modality. Another unit of brightness is no reason.

# %%
suited = suitability(came, reference)
fits = (suited["unsuited"] == "").to_numpy()
brains = came.select(fits)
left_out = came.refused | suited.loc[~fits, "unsuited"].to_dict()
print(f"{len(brains)} of {len(came) + len(came.refused)} brains are used")
pd.Series(left_out, name="why it is left out", dtype=str)

# %% [markdown]
# ## Artefacts
#
# A model that does not reproduce artefacts shows them as its error. What such errors mean was learned on artefacts planted in
# the reference cohort's held-out brains. The probability is that of a brain with an artefact where 15 in 100 have one.

# %%
ordinary = clean_part(reference, "validation").images
strengths = p.evaluation.artefact_strengths
judge = ArtefactJudge(model, ordinary, graded_artefacts(reference, strengths, p.evaluation.n_graded))
judged = judge(brains.images)
names = brains.metadata.index
worst = np.argsort(-judged.probability, kind="stable")
words = [f"{kind} {p:.2f}" for kind, p in zip(judged.kind, judged.probability, strict=True)]

# %%
sheet = figures.fig_contact_sheet(
    brains.images[worst],
    names[worst],
    np.array(words)[worst],
    brains.atlas.pixel_um,
    masks=judged.masks[worst],
).made_from(f"{len(brains)} brains of {came.name}; reference {reference.name}, {len(ordinary)} clean brains")
sheet.savefig(out / "contact_sheet.png")
sheet

# %% [markdown]
# ## Cleaned
#
# Inside the outline stands what the model makes of the rest of the brain; every other pixel is the same as before, to the bit.

# %%
few = worst[: max(1, min(4, int((judged.kind != "none").sum())))]
clean = cleaned(model, brains.images, judged.masks)
figures.fig_reconstructions(
    brains.images[few],
    {"Cleaned": clean[few]},
    brains.atlas.pixel_um,
    list(names[few]),
    first_row="As it came",
).shows("The brains that need it most, as they came and cleaned.").made_from(came.name)

# %% [markdown]
# ## How unusual is each brain?
#
# Each region's brightness is held against that of the reference cohort's clean brains. Brains are compared as they came, not cleaned.

# %%
regions = brains.atlas.regions(p.fields.region_share)
masks = brains.atlas.roi_masks(regions)
held_out = reference.select((reference.metadata["split"] != "train").to_numpy())
usual = region_brightness(clean_part(reference, "train").images, masks).T
mine = pd.DataFrame(region_brightness(brains.images, masks).T, names, regions)
norm = Norm(usual)
z = pd.DataFrame(norm.z(mine), names, regions)
print(f"z (brains, regions) = {z.shape}")

# %%
figures.fig_deviations(z).made_from(f"{len(brains)} brains of {came.name}; norm of {len(usual)} clean brains of {reference.name}")

# %%
of_brain = came.metadata.join(suited).assign(used=fits)
of_brain.loc[names, "artefact_probability"] = judged.probability
of_brain.loc[names, "artefact_kind"] = judged.kind
of_brain.loc[names, "whole_z"] = norm.whole(mine)
of_brain.loc[names, "largest_z"] = norm.largest(mine)
of_brain.join(z.add_suffix("_z")).to_csv(out / "brains.csv")
of_brain.loc[names[worst], ["fit", "artefact_probability", "artefact_kind", "whole_z"]].round(2).head(12)

# %% [markdown]
# ## In what the groups differ
#
# A linear model a measure, with the covariates as terms. Three kinds of measures are asked: the mean brightness of each region, which is what
# labs use today; the latents; and every pixel. Chance is what the same brains give when the groups are dealt out anew. A region's q is
# the share of false finds among all regions that are as clear; a pixel or latent is taken only if no chance map has one as clear anywhere.

# %%
asked = [p.lab.group] if p.lab.group else []  # nothing below is done where no groups are asked about
for term in asked:
    used, without = usable_brains(brains.metadata, term, p.lab.covariates)
    design = design_of(brains.metadata[used], term, p.lab.covariates)
    print(design, *(f"{brain} is left out: {why}" for brain, why in without.items()), sep="\n")

# %%
codes = pd.DataFrame(model.encode(brains.images), names, [f"F{i + 1}" for i in range(p.model.latent_dim)])
inside = brains.atlas.brain_mask
tables = {}
for term in asked:
    measures = {"region": mine, "latent": codes, "pixel": brains.images[:, inside]}
    for kind, values in measures.items():
        tables[kind] = group_differences(values[used], design, n_permutations=p.lab.n_permutations)

# %%
for term in asked:
    of_region = tables["region"].sort_values("p").head(16)
    shown = of_region.drop(columns=["value", "low", "high"]).rename(
        columns={"effect": "value", "effect_low": "low", "effect_high": "high"}
    )
    told = shown["measure"] + ", q " + shown["q"].map("{:.2g}".format)
    source = f"{int(used.sum())} brains of {came.name}"
    display(
        figures.fig_differences(
            shown.assign(measure=told), f"{design.contrast}, brightness in standard deviations", group="measure"
        ).shows("The clearest differences between regions.").made_from(source)
    )

# %%
for term in asked:
    maps = {name: np.zeros(brains.atlas.shape) for name in (design.contrast, "the same by the latents")}
    maps[design.contrast][inside] = tables["pixel"]["value"].fillna(0)
    half = (tables["latent"]["value"].fillna(0) / 2).to_numpy()
    low, high = model.decode((codes[used].mean() + np.stack([-half, half])).astype(np.float32))
    maps["the same by the latents"] = high - low
    p_family = np.ones(brains.atlas.shape)
    p_family[inside] = tables["pixel"]["p_family"]
    mean = brains.images[used].mean(axis=0)
    display(
        figures.fig_group_maps(mean, maps, p_family, "mean of all", brains.atlas.pixel_um)
        .shows("The difference by pixel, and what the models of the latents make of their differences.")
        .made_from(source)
    )

# %%
found = [table.assign(of=kind) for kind, table in tables.items() if kind != "pixel"]
for term in asked:
    table = pd.concat(found, ignore_index=True)
    table.to_csv(out / "differences.csv", index=False)
    clear = (table["of"].eq("region") & (table["q"] < 0.05)) | (table["p_family"] < 0.05)
    print(f"clear: {', '.join(table.loc[clear, 'measure']) or 'no region and no latent'}")
    print(f"pixels beyond chance: {(p_family < 0.05).sum()} of {inside.sum()}")

# %% [markdown]
# ## Of which kind is it?
#
# A difference between groups may be anatomy, brightness, registration, or damage in a few brains. The map of the difference is
# held against maps of each kind; where none fits clearly, that is said.

# %%
for term in asked:
    display(difference_kind(brains.images[used], design.matrix, design.tested, brains.atlas, judged.kind[used] != "none"))

# %% [markdown]
# ## How many brains?
#
# The spread of a region's brightness within the groups says what a study of this size can see, and how many brains a smaller difference
# takes. Regions are tested together, so each at 0.05 divided by their number.

# %%
for term in asked:
    rest = mine[used] - design.matrix @ np.linalg.lstsq(design.matrix, mine[used], rcond=None)[0]
    spread = np.sqrt((rest**2).sum() / (used.sum() - design.matrix.shape[1]))
    counts = np.unique(design.matrix[:, design.tested].argmax(axis=1), return_counts=True)[1]
