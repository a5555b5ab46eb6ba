"""What every test file shares."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real atlas and brains, named by BRAINVAE_DATA; skips where there is none."""
    folder = os.environ.get("BRAINVAE_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"BRAINVAE_DATA={folder!r} names no folder with the real atlas and brains")
    return Path(folder)
