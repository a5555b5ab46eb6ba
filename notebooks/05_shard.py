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
# # 5 · One row of the grid
#
# **What does β do at a given number of latents?** The β × L grid is a product: every β at every L, from
# several seeds. It is fitted row by row, a row of β for one L, so that starting up is paid once a row and
# not once a model; on a cluster every row is a job of its own. This chapter is such a job: it fits
# the row of L = `row`, or loads what was fitted, and the next chapter reads the whole grid.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
row = None  # the profile's, as the next
betas = None

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
import pandas as pd
from brainvae_core import figures, study
from brainvae_core.metrics import explained_variance
from brainvae_core.models import effective_strength, fit_all
from brainvae_core.prepare import prepare_cohort

# %%
cohort = prepare_cohort(p).resampled(p.grid.shape)
grid = study.grid(p)
row = study.row(p, p.grid.row)
print(cohort)
print(f"the grid: {len(grid)} β-VAEs and {len(grid.latent_dims)} PCAs")
values = ", ".join(f"{b:g}" for b in row.betas)
print(f"this row, L = {p.grid.row}: {len(row)} β-VAEs and one PCA")
print(f"β = {values}, {len(row.seeds)} seeds each")

# %% [markdown]
# ## Fitting the row
#
# Models are trained `together` where that is faster than one after another. A row that was interrupted goes
# on where it was; a model whose loss stops being finite ends alone and is reported. What chapter 7 needs at this L beside
# the row, such as further seeds, is fitted too.

# %%
wanted = study.row_configs(p, p.grid.row)
fitted = fit_all(cohort, wanted, p.places.runs, p.places.device, p.places.together, halve=True)
runs = [run for run in fitted if run.config in row.configs]
print(study.counted(row.configs, cohort, p.places.runs))

# %%
pca = next(run for run in runs if run.config.kind == "pca")
in_row = [run for run in runs if run.config.kind == "beta_vae"]
vaes = {(run.config.beta, run.config.seed): run for run in in_row}
if not vaes:
    raise RuntimeError("no VAE of the row was fitted; see above for why")
first = {beta: run for (beta, _), run in reversed(vaes.items())}
validation = cohort.split("validation")

# %%
size = f"{p.grid.shape[0]} × {p.grid.shape[1]} pixels, L = {p.grid.row}"
source = f"Cohort {cohort.name} at {size}, {len(validation)} validation brains"
of_first = f"{source}, the first fitted seed of {len(row.seeds)}"

# %% [markdown]
# ## How β changes a fit
#
# Validation brains, one line per value of β. A larger β buys a smaller rate (the KL) with a larger
# distortion, and can put latents to sleep that are not worth their price. β means nothing without its likelihood and
# resolution, so the effective strength (βσ² over the number of pixels) is printed beside it.

# %%
for b in row.betas:
    strength = effective_strength(b, p.model.likelihood)
    print(f"β = {b:<4g} effective strength {strength:.2e}")

# %%
figures.fig_training(
    {f"β = {b:g}": first[b].history for b in row.betas if b in first},
    {"PCA": pca.history[-1]["explained_variance"]},
).shows("One fit per value of β, judged on validation brains.").made_from(of_first)

# %% [markdown]
# In the demo profile the rate is the smaller the larger β is, at every validation, and all fits stay
# below PCA in explained variance. In D the three lines coincide: every latent is active at every β. The losses
# flatten towards the last step, also because the learning rate falls to zero there: four times as many steps
# would gain a little more.

# %% [markdown]
# ## What the row ended on
#
# Points are single fits, the line is their mean. Rate and distortion are of validation brains; the test brains
# are not read in this chapter.

# %%
last = [{"beta": b, "seed": s, **run.history[-1]} for (b, s), run in vaes.items()]
ends = pd.DataFrame(last)
titles = {
    "validation_kl": "Rate (nats per image)",
    "validation_reconstruction": "Distortion (nats per image)",
    "explained_variance": "Explained variance",
    "active_latents": "Active latents",
}

# %%
points = ends.pivot(index="beta", columns="seed")
panels = {
    title: points[name].reindex(index=row.betas, columns=row.seeds).to_numpy()
    for name, title in titles.items()
}
pca_explained = pca.history[-1]["explained_variance"]

# %%
figures.fig_row(row.betas, panels, {"Explained variance": pca_explained}).shows(
    "Four numbers of the validation brains at every β of this row."
).made_from(f"{source}, {len(row.seeds)} seeds per point")

# %% [markdown]
# In the demo profile the rate halves and more from β = 1 to 10, the distortion rises by about 60 nats, and no
# latent is put to sleep: the pressure makes the latents together say less. The rate tells the three values of β
# apart: no two ranges over seeds overlap. In explained variance those of β = 1 and 3 overlap.

# %% [markdown]
# ## What is painted back at each β

# %%
images = validation.images
shown = {"PCA": pca} | {f"β = {b:g}": first[b] for b in row.betas if b in first}
painted = {label: run.model.reconstruct(images) for label, run in shown.items()}
mean_section = images.mean(axis=0)
kept = {k: explained_variance(images, r, mean_section) for k, r in painted.items()}

# %%
figures.fig_reconstructions(
    images[:4],
    {label: r[:4] for label, r in painted.items()},
    pixel_um=cohort.atlas.pixel_um,
    titles=list(validation.metadata.index[:4]),
).shows("Four validation brains, by PCA and one fit per β.").made_from(of_first)

# %% [markdown]
# In the demo profile the leak of the first brain is in no reconstruction. The brighter side of the third is painted
# by PCA and at every β.

# %% [markdown]
# ## The figures in numbers
#
# The first cell prints what was measured, to digits that differ a little between processors; the second what
# holds in the demo profile, on any processor. In the table: mean (least to greatest) over the seeds.

# %% tags=["nbval-ignore-output"]
spread = ends.groupby("beta")[list(titles)].agg(["mean", "min", "max"])
table = {
    title: [f"{m:,.4g} ({a:,.4g} to {b:,.4g})" for m, a, b in spread[name].to_numpy()]
    for name, title in titles.items()
}
rows = [f"β = {b:g}" for b in spread.index]
pd.DataFrame(table, rows).replace("-", "−", regex=True)

# %%
rate = panels["Rate (nats per image)"].mean(axis=1)
in_history = {k: run.history[-1]["explained_variance"] for k, run in shown.items()}
best = ends["explained_variance"].max()
pd.Series(
    {
        "every model of the row was fitted": len(vaes) == len(row),
        "the largest β has the smallest rate": bool((rate[-1] < rate[:-1]).all()),
        "the models explain what their histories say": bool(
            (abs(pd.Series(kept) - pd.Series(in_history)) < 0.01).all()
        ),
        "no model explains more than PCA at this L": bool(best <= pca_explained),
    }
)

# %% [markdown]
# **Found.** At eight latents a larger β buys a smaller rate with a larger distortion, as it must, and puts no latent to sleep: together they say
# less. At this size no fit explains as much as PCA. How sure: three fits per point. Their rates do not overlap between values of β; their explained
# variances do between β = 1 and 3. The fits are near their plateau, not at it.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
