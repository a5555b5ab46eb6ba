"""What one writes first: the downloader that every fault of the local server is held against.

It believes a status, a file that exists and a header it does not read. AllenSDK's own caches also
believe a file that exists.
"""

import os
import zipfile

import numpy as np
import requests


def section(url, folder, experiment, plane=286):
    """The (DV, ML) plane of an experiment's red volume."""
    path = os.path.join(folder, f"{experiment}.zip")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.write(requests.get(url, timeout=10).content)
    with zipfile.ZipFile(path) as archive:
        voxels = np.frombuffer(archive.read("resampled_red.raw"), "<u2")
    return voxels.reshape(456, 320, 528)[:, :, plane].T
