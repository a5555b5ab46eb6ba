"""What a model must beat: the mean image, and the nearest training brain."""

from __future__ import annotations

import numpy as np

from brainvae_core.models.arrays import checked_codes, checked_images


class MeanImage:
    """The training brains' mean section, whatever the image; it has no latents.

    Parameters
    ----------
    mean : ndarray, shape (height, width)
    """

    latent_dim = 0

    def __init__(self, mean):
        self.mean = np.ascontiguousarray(mean, dtype=np.float32)
        self.image_shape = self.mean.shape

    @classmethod
    def fit(cls, images: np.ndarray) -> MeanImage:
        """The mean of images (n, height, width), of which there is at least one."""
        return cls(_some(images).mean(axis=0, dtype=np.float64))

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Nothing about images (n, height, width): (n, 0) float32."""
        return np.empty((len(checked_images(images, self.image_shape)), 0), dtype=np.float32)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """The mean image for every code (n, 0), (n, height, width) float32."""
        return np.tile(self.mean, (len(checked_codes(z, 0)), 1, 1))

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """``decode(encode(images))``: the mean image for each."""
        return self.decode(self.encode(images))

    def tensors(self) -> dict[str, np.ndarray]:
        """What is kept on disk, by name."""
        return {"mean": self.mean}


class NearestBrain:
    """The training brain that is nearest to an image, by squared distance over pixels.

    Parameters
    ----------
    images : ndarray, shape (n_brains, height, width)
        The training brains; they are kept whole, in memory and on disk.

    Notes
    -----
    A code is a name, not a coordinate: the number of a training brain, from 0, as float32. Codes
    that are close name brains that need not be alike; a step along this latent, its variance or
    a perturbation of it mean nothing.
    """

    latent_dim = 1

    def __init__(self, images):
        self.images = np.ascontiguousarray(images, dtype=np.float32)
        self.image_shape = self.images.shape[1:]
        self._mean = self.images.mean(axis=0, dtype=np.float64).astype(np.float32)
        # Brain by brain: all deviations at once would be the cohort a second time.
        self._spread = np.array(
            [np.square(image - self._mean).sum(dtype=np.float64) for image in self.images]
        )

    @classmethod
    def fit(cls, images: np.ndarray) -> NearestBrain:
        """The brains of images (n, height, width), of which there is at least one."""
        return cls(_some(images))

    def encode(self, images: np.ndarray) -> np.ndarray:
        """The nearest training brain's number for images (n, height, width), (n, 1) float32."""
        images = checked_images(images, self.image_shape)
        # ‖x − b‖² = ‖b − m‖² − 2 (x − m)·b + what is equal for every b. From the mean m, because
        # brains are so alike that distances from black would drown in their rounding.
        deviations = (images - self._mean).reshape(-1, self._mean.size)
        products = deviations @ self.images.reshape(len(self.images), -1).T
        return (self._spread - 2 * products).argmin(axis=1)[:, None].astype(np.float32)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """The training brains of codes (n, 1), rounded to a number, (n, height, width) float32.

        Raises
        ------
        ValueError
            There is no brain of that number.
        """
        numbers = np.rint(checked_codes(z, 1)[:, 0])
        wrong = numbers[(numbers < 0) | (numbers >= len(self.images))]
        if len(wrong):
            last = len(self.images) - 1
            raise ValueError(f"code {wrong[0]:.0f} names no training brain; codes are 0 to {last}")
        return self.images[numbers.astype(int)]

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """``decode(encode(images))``: the nearest training brain."""
        return self.decode(self.encode(images))

    def tensors(self) -> dict[str, np.ndarray]:
        """What is kept on disk, by name."""
        return {"images": self.images}


def _some(images):
    images = checked_images(images, np.shape(images)[1:])
    if not len(images):
        raise ValueError("there are no images; give at least one")
    return images
