"""How a β-VAE is fitted: the paper's way, and the fast one. Each value says where it is from.

``recipe.config(latent_dim=8, beta=3)`` is a configuration; ``recipe.provenance()`` the table.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

from brainvae_core.models.config import BetaVAEConfig


def stated(value, source: str):
    """A recipe's value with its source."""
    return field(default=value, metadata={"source": source})


class Recipe:
    """What every recipe can be asked."""

    def config(self, **changes) -> BetaVAEConfig:
        """The configuration of a fit; ``changes`` such as ``latent_dim=8`` win."""
        return BetaVAEConfig(**{**asdict(self), **changes})

    def provenance(self) -> list[tuple[str, object, str]]:
        """Name, value and source of every value."""
        return [(f.name, getattr(self, f.name), f.metadata["source"]) for f in fields(self)]


@dataclass(frozen=True)
class PaperRecipe(Recipe):
    """What the paper says, and where it is silent what its authors' released code says.

    Every value may be given as a keyword of `BetaVAEConfig`; ``provenance`` says where it is from.
    """

    likelihood: str = stated(
        "bernoulli", "the first of the base code's two; which was used is not shown"
    )
    learning_rate: float = stated(2e-4, "the paper")
    batch_size: int = stated(64, "the paper")
    steps: int = stated(
        10_000, "iteration of the released checkpoint; the paper's 4 hours may mean more"
    )
    weight_decay: float = stated(0.0, "Adam, as in the code the authors built on")
    lr_warmup: float = stated(0.0, "none is mentioned")
    lr_cosine: bool = stated(False, "no schedule is mentioned")
    kl_warmup: float = stated(0.0, "none is mentioned")
    initialisation: str = stated("authors", "the released model's: Kaiming, on raw greys")
    precision: str = stated("float32", "what a Titan RTX has: no TF32")
    validate_every: int = stated(1000, "ours: nothing is decided by it")


@dataclass(frozen=True)
class FastRecipe(Recipe):
    """What is to reach the paper recipe's held-out ELBO soonest; gains in benchmarks/RESULTS.md.

    Measured on a CPU at 40 × 56 pixels only; on a GPU, and at the paper's size, unmeasured. Every
    value may be given as a keyword of `BetaVAEConfig`; ``provenance`` says where each is from.
    """

    likelihood: str = stated("bernoulli", "the paper recipe's: another would be another model")
    learning_rate: float = stated(
        1e-3, "measured: 2e-4 reaches less in as many steps; 2e-3 no more"
    )
    batch_size: int = stated(64, "the paper's; the CPU's figures are of 16")
    steps: int = stated(
        2000,
        "a guess: at 40 × 56, 1,600 steps of 16 do what the paper's recipe does in 3,000 of 64",
    )
    weight_decay: float = stated(0.0, "the paper's")
    lr_warmup: float = stated(0.0, "measured: a warm-up gains nothing")
    lr_cosine: bool = stated(False, "measured: a cosine gains nothing")
    kl_warmup: float = stated(
        0.5, "measured: without it 3 of 24 fits fell to the mean image, with it none of 16"
    )
    initialisation: str = stated(
        "data", "measured: without it nearly nothing is learned in as many steps"
    )
    precision: str = stated(
        "float32", "bfloat16 loses nothing measurable, and gains are unmeasured"
    )
    validate_every: int = stated(500, "ours: each costs as much as a few steps")
