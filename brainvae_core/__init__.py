"""What a generative model learns about how mouse brains differ, and how to ask it.

Five rooms, in the order that data flows: `cohorts` → `models` → `metrics`, `fields` → `figures`.
"""

import os
import signal
import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    # python -m brainvae_core.…: importing PyTorch takes seconds, in which nothing is begun yet.
    signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"stopped\n"), os._exit(130)))
