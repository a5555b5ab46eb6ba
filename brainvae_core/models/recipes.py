"""How a β-VAE is fitted: the paper's way and the fast one, value by value, each with its source."""

from __future__ import annotations

from typing import NamedTuple

from brainvae_core.models.config import BetaVAEConfig


class Stated(NamedTuple):
    """One value of both recipes."""

    paper: object
    source: str  # where the paper's value is from
    why: str  # why the fast recipe's is what it is: `BetaVAEConfig`'s default


RECIPES = {
    "likelihood": Stated(
        "bernoulli",
        "the first of the base code's two; which was used is not shown",
        "as strong as Bernoulli on greys, and normalised",
    ),
    "optimiser": Stated("adam", "the code the authors built on", "Muon: measured"),
    "learning_rate": Stated(2e-4, "the paper", "first and last layers; biases at a quarter"),
    "adam_beta2": Stated(0.999, "Adam's default, as in that code", "a tenth of the memory"),
    "batch_size": Stated(64, "the paper", "measured: 8 and 32 reach less in as many seconds"),
    "steps": Stated(
        10_000,
        "iteration of the released checkpoint; the paper's 4 hours may mean more",
        "at one size; at 320 × 448 grown through `FAST_STAGES`",
    ),
    "lr_warmup": Stated(0.0, "none is mentioned", "of each stage"),
    "lr_cosine": Stated(False, "no schedule is mentioned", "over the last stage"),
    "kl_warmup": Stated(0.0, "none is mentioned", "keeps latents alive"),
    "initialisation": Stated(
        "authors", "the released model's: Kaiming, on raw greys", "brains differ from the start"
    ),
    "precision": Stated("float32", "what a Titan RTX has: no TF32", "bfloat16 where it is faster"),
    "validate_every": Stated(1000, "ours: nothing is decided by it", "ours, too"),
}
# From a size that has learned the codes to one that has the detail.
FAST_STAGES = "80x112: 800, 160x224: 300, 320x448: 600"


def paper_config(**changes) -> BetaVAEConfig:
    """What the paper says, and where it is silent what its authors' released code says.

    Parameters
    ----------
    changes
        Such as ``latent_dim=8``; they win.
    """
    return BetaVAEConfig(**{name: stated.paper for name, stated in RECIPES.items()} | changes)


def fast_config(**changes) -> BetaVAEConfig:
    """The recipe that reaches a high held-out ELBO_β in few steps, grown to the paper's size.

    Parameters
    ----------
    changes
        Such as ``latent_dim=8``; they win. At another size than 320 × 448, ``steps`` too.
    """
    return BetaVAEConfig(**{"steps": FAST_STAGES} | changes)
