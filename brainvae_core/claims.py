"""Claims of a chapter: differences that are positive where a claim holds, each with its margin."""

from __future__ import annotations

import pandas as pd

from brainvae_core.metrics import Estimate, compare, named, verdict


class Claims:
    """What differences of a table say of claims; `Record` takes ``found`` and ``margins``.

    ``found`` are differences by claim and setting, ``margins`` the least that would matter.
    """

    def __init__(self):
        self.found: dict[str, dict[str, Estimate]] = {}
        self.margins: dict[str, float] = {}

    def add(
        self, claim: str, table: pd.DataFrame, a, b, margin: float, *, of: str = "model", by=""
    ) -> None:
        """That a is above b, in every group of ``by`` or in one setting, named after the two.

        ``table``, ``a``, ``b`` and ``of`` are as of `compare`; ``by`` is a column whose values name
        the settings. A claim that is added again has one more setting, and the same margin.
        """
        if self.margins.setdefault(claim, margin) != margin:
            raise ValueError(
                f"{claim}: margin={margin:g}, but {self.margins[claim]:g} was said before; a claim "
                "has one margin"
            )
        rows = compare(table, a, b, by=by or (), of=of)
        found = named(rows, f"{{{by}}}" if by else f"{a} less {b}")
        if twice := found.keys() & self.found.get(claim, {}):
            raise ValueError(f"{claim}: the setting {min(twice)!r} is there already; add it once")
        self.found.setdefault(claim, {}).update(found)

    def __getitem__(self, claim: str) -> str:
        """The verdict on a claim."""
        return verdict(self.found[claim].values(), self.margins[claim])

    def only(self, claim: str, setting: str = "") -> Estimate:
        """One difference of a claim; without a setting, of a claim that has one alone."""
        if setting:
            return self.found[claim][setting]
        (found,) = self.found[claim].values()
        return found
