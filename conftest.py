"""Settings of every pytest run, notebooks included."""

import os

from hypothesis import settings

# Progress bars carry times, which no two runs share.
os.environ["TQDM_DISABLE"] = "1"

settings.register_profile("default", deadline=None, max_examples=25)
settings.register_profile("nightly", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
