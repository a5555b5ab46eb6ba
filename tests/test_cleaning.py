"""Judging and cleaning: planted artefacts found, named and outlined; only masked pixels change."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from toys import Answers

from brainvae_core.cohorts import displaced, graded_artefacts, simulate
from brainvae_core.metrics import ArtefactJudge, auc, inpaint
from brainvae_core.models import PCA

SHAPE = (80, 112)


@pytest.fixture(scope="module")
def brains():
    """A model of the training brains, a judge taught by half of others, and the rest."""
    cohort = simulate(220, shape=SHAPE, artefact_share=0, seed=0)
    further = simulate(120, cohort.atlas, artefact_share=0.5, seed=1)
    model = PCA.fit(cohort.split("train").images, 8)
    graded = graded_artefacts(cohort, (0.4, 0.7, 1.0), 8)
    judge = ArtefactJudge(model, cohort.split("test").images, graded, share=0.5)
    return SimpleNamespace(model=model, judge=judge, graded=graded, cohort=cohort, further=further)


def test_artefacts_of_further_brains_are_found_named_and_outlined(brains):
    further, judged = brains.further, brains.judge(brains.further.images)
    planted = further.metadata["artefact"].to_numpy()
    there = planted != "none"
    p = judged.probability
    assert auc(p[~there], p[there]) > 0.95
    assert np.square(p - there).mean() < 0.08
    assert (judged.kind == planted)[there].mean() > 0.85
    masks, truth = judged.masks[there], further.artefact_masks[there]
    shared = (masks & truth).sum(axis=(1, 2)) / (masks | truth).sum(axis=(1, 2))
    assert np.median(shared) > 0.5
    np.testing.assert_allclose(judged.by_kind.sum(axis=1), p)
    assert (judged.masks.any(axis=(1, 2)) <= (judged.kind != "none")).all()
    assert ((p >= 0.5) == (judged.kind != "none")).all()


def test_cleaned_brains_are_nearer_to_what_they_were(brains):
    further = brains.further
    masks = brains.judge(further.images).masks
    found = inpaint(brains.model, further.images, masks)
    before, after = (
        np.square(images - further.clean).mean(axis=(1, 2)) for images in (further.images, found)
    )
    some = masks.any(axis=(1, 2)) & further.artefact_masks.any(axis=(1, 2))
    assert (after < before)[some].mean() > 0.9 and after[some].mean() < 0.3 * before[some].mean()
    assert np.array_equal(found[~masks], further.images[~masks])


def test_a_brain_is_judged_alone_and_by_the_share_expected(brains):
    images, judge = brains.further.images[:20], brains.judge
    whole = judge(images)
    for i in (0, 19):
        alone = judge(images[i : i + 1])
        np.testing.assert_allclose(alone.probability[0], whole.probability[i], rtol=1e-4)
        np.testing.assert_array_equal(alone.masks[0], whole.masks[i])
    ordinary, all_of = brains.cohort.split("validation").images, brains.graded
    few = replace(all_of, images=all_of.images[:, -1:], masks=all_of.masks[:, -1:])
    often, again, rarely = (
        ArtefactJudge(brains.model, ordinary, few, share)(images).probability
        for share in (0.5, 0.5, 0.05)
    )
    np.testing.assert_array_equal(often, again)
    assert rarely.mean() < often.mean()


def test_unusual_anatomy_that_was_shown_as_ordinary_is_no_artefact(brains):
    atlas, ordinary = brains.cohort.atlas, brains.cohort.split("test").images
    large = displaced(brains.further.clean[:30], atlas, "ventricle_size", 3)
    shown = np.concatenate([ordinary, displaced(ordinary[:30], atlas, "ventricle_size", 2.5)])
    taught = ArtefactJudge(brains.model, shown, brains.graded, share=0.5)
    assert (taught(large).kind != "none").sum() < 0.5 * (brains.judge(large).kind != "none").sum()


# ---- cleaning alone ----


def lines(n=40, shape=(6, 7), seed=0):
    """Brains of two patterns, whose missing part the rest tells."""
    rng = np.random.default_rng(seed)
    patterns = rng.random((2, *shape))
    return (0.3 + 0.2 * np.tensordot(rng.random((n, 2)), patterns, 1)).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), share=st.floats(0, 0.6))
def test_only_masked_pixels_change_and_they_come_back(seed, share):
    images = lines(seed=seed)
    model, rng = PCA.fit(images, 2), np.random.default_rng(seed)
    masks = rng.random(images.shape) < share * (rng.random(len(images)) < 0.7)[:, None, None]
    dirty = np.where(masks, 1, images).astype(np.float32)
    given = dirty.copy()
    found = inpaint(model, dirty, masks)
    assert found.dtype == np.float32 and np.array_equal(dirty, given)
    assert np.array_equal(found[~masks].view(np.int32), images[~masks].view(np.int32))
    alone = inpaint(model, dirty[3:4], masks[3:4])
    np.testing.assert_allclose(alone[0], found[3], atol=1e-5)
    if share < 0.3:
        np.testing.assert_allclose(found, images, atol=0.1)


def test_a_model_that_answers_what_it_is_given_cleans_nothing():
    images = lines()
    masks = np.zeros(images.shape, bool)
    masks[:, 2:4, 2:4] = True
    same = Answers(encode=lambda x: x.reshape(len(x), -1), decode=lambda z: z.reshape(-1, 6, 7))
    np.testing.assert_array_equal(inpaint(same, images, masks), images)
    grey = SimpleNamespace(reconstruct=lambda x: np.full_like(x, 0.25))
    np.testing.assert_array_equal(inpaint(grey, images, masks), np.where(masks, 0.25, images))


def test_what_cannot_be_judged_is_refused_by_name(brains):
    images, model, graded = brains.further.images, brains.model, brains.graded
    few = SimpleNamespace(**(vars(graded) | {"clean": graded.clean[:3]}))
    full = np.ones(images[:2].shape, bool)
    cases = [
        ("share=1 of brains with artefacts must be", ArtefactJudge, model, images, graded, 1),
        ("3 planted brains are too few; give 4", ArtefactJudge, model, images, few),
        (r"brains \(40, 56\) and ordinary \(80, 112\)", brains.judge, images[:, ::2, ::2]),
        ("the mask of brain 1 covers the whole", inpaint, model, images[:2], full & [[[0]], [[1]]]),
    ]
    refused(cases)
