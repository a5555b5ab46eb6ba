"""An artefact grows, and what is to see it does.

CW-SSIM, MS-SSIM, PSNR, explained variance, the Fréchet distance, outlier scores of codes, error
scores and the outline of an error; the share of an artefact that a model paints stays its share,
and the norm ratio grows with what a projection keeps. Precision and recall, spectra and
likelihoods are not asked.
"""

import numpy as np
import pytest

from brainvae_core.cohorts import ARTEFACTS, graded_artefacts, simulate
from brainvae_core.metrics import (
    cw_ssim,
    error_score,
    explained_variance_per_brain,
    frechet_distance,
    ms_ssim,
    pca_basis,
    pixel_detection,
    psnr,
)
from brainvae_core.models import PCA

STRENGTHS = (0.2, 0.5, 1.0)
each_kind = pytest.mark.parametrize("kind", range(3), ids=list(ARTEFACTS))


@pytest.fixture(scope="module")
def planted():
    cohort = simulate(150, shape=(80, 112), artefact_share=0, seed=4)
    n = len(cohort.split("test"))
    graded = graded_artefacts(cohort, STRENGTHS, n)
    clean = np.broadcast_to(graded.clean, graded.images.shape)
    return cohort, (clean, graded.images, graded.masks)


def falls(values):
    return all(b < a for a, b in zip(values, values[1:], strict=False))


@each_kind
def test_similarity_to_the_clean_brain_falls(planted, kind):
    cohort, (clean, dirty, _) = planted
    mean = cohort.split("train").images.mean(axis=0)
    for metric in (cw_ssim, ms_ssim, psnr):
        level = {"level": 2} if metric is cw_ssim else {}
        by_strength = [metric(c, d, **level) for c, d in zip(clean[kind], dirty[kind], strict=True)]
        assert falls([s.mean() for s in by_strength]), metric.__name__
        # Of single brains most: a leak that saturates loses structure that it had while it grew.
        assert (np.diff(by_strength, axis=0) < 0).mean() > 0.85, metric.__name__
    explained = [
        explained_variance_per_brain(c, d, mean).mean()
        for c, d in zip(clean[kind], dirty[kind], strict=True)
    ]
    assert falls(explained)


@each_kind
def test_the_frechet_distance_grows(planted, kind):
    cohort, (clean, dirty, _) = planted
    basis = pca_basis(cohort.split("train").images, 8)
    real = basis.project(clean[kind, 0])
    assert falls([-frechet_distance(real, basis.project(d)) for d in dirty[kind]])


@each_kind
def test_errors_grow_and_outline_the_mask(planted, kind):
    cohort, (clean, dirty, masks) = planted
    pca = PCA.fit(cohort.split("train").images, 6)
    error = [np.abs(pca.reconstruct(x) - x) for x in (clean[kind, 0], *dirty[kind])]
    assert falls([-error_score(e).mean() for e in error])
    by_pixel = [pixel_detection(e, masks[kind, -1]).auc.mean() for e in error]
    assert falls([-a for a in by_pixel])
    # Of its own mask no more surely as it grows: what is added to a mask are its faint borders.
    own = [pixel_detection(e, m).auc.mean() for e, m in zip(error[1:], masks[kind], strict=True)]
    assert min(own) > 0.6
