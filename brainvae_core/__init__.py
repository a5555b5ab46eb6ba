"""What a generative model learns about how mouse brains differ, and how to ask it.

Five rooms, in the order that data flows: `cohorts` → `models` → `metrics`, `fields` → `figures`.
"""

__version__ = "0.1.0"
