"""What every metric asks of its images, its rows and its model."""

import numpy as np

ROUNDING = 1e-3  # by which brains may leave [0, 1]
WITHIN = (-1.0, 2.0)  # all but a few pixels of what linear models answer to greys in [0, 1]
MOST_OUTSIDE = 0.01  # of an image's pixels


def checked_images(images, name: str, unit: str | None = "greys") -> np.ndarray:
    """Images (n, height, width), all finite, or a ValueError that says what is wrong.

    Brains are ``"greys"`` from 0 to 1. A model's ``"answers"`` may leave that by a little, as those
    of linear models do; refused is what is plainly of another unit: whole numbers beyond 1, as of 8
    bits; an image with more than 1 % of its pixels below −1 or above 2; images that are negative on
    average, as those from −1 to 1 are. Differences, and what is right in any unit, have None.
    """
    images = np.asarray(images)
    if images.ndim != 3 or not images.size:
        raise ValueError(f"{name} is {images.shape}; it must be (n, height, width)")
    finite = np.isfinite(images).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(
            f"{name}[{np.argmin(finite)}] has pixels that are not finite; leave that brain out"
        )
    if unit:
        _check_unit(images, name, unit)
    return images


def _check_unit(images, name, unit="greys"):
    least, most = images.min(), images.max()
    if least >= -ROUNDING and most <= 1 + ROUNDING:
        return
    another = unit == "greys"
    another |= most > 1 and (images.dtype.kind in "iu" or (images == np.rint(images)).all())
    another |= images.mean(dtype=np.float64) < -0.1
    if least < WITHIN[0] or most > WITHIN[1]:
        outside = (images < WITHIN[0]) | (images > WITHIN[1])
        another |= outside.mean(axis=(1, 2)).max() > MOST_OUTSIDE
    if another:
        raise ValueError(
            f"{name} has values from {least:g} to {most:g}; greys from 0 to 1 are taken: bring "
            "them there, for example by dividing by 255"
        )


def checked_alike(brains: dict, answers: dict) -> list[np.ndarray]:
    """Brains, then a model's answers (n, height, width), of one shape and told by their names."""
    found = {name: checked_images(images, name) for name, images in brains.items()}
    found |= {name: checked_images(images, name, "answers") for name, images in answers.items()}
    check_one_shape(**found)
    return [*found.values()]


def check_one_shape(**arrays) -> None:
    """Arrays of unequal shapes are a ValueError that names the first that differs."""
    (first, shape), *others = ((name, np.shape(array)) for name, array in arrays.items())
    for name, other in others:
        if other != shape:
            raise ValueError(f"{name} {other} and {first} {shape} must have one shape")


def reconstructed(model, images: np.ndarray) -> np.ndarray:
    """A model's answer to images: ``reconstruct``, or ``decode(encode(…))`` where it has none."""
    given = images.copy()  # a model that works in place would change what it is judged by
    answer = getattr(model, "reconstruct", None)
    found = np.asarray(answer(given) if answer else model.decode(model.encode(given)))
    if found.shape != images.shape:
        raise ValueError(
            f"the model's reconstructions are {found.shape}; of images {images.shape} they must "
            "have the same shape"
        )
    finite = np.isfinite(found).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(f"the model's reconstruction {np.argmin(finite)} is not finite")
    return found


def checked_mean(mean_image, images: np.ndarray) -> np.ndarray:
    """A mean image that fits these images, as float64."""
    mean_image = np.asarray(mean_image, dtype=np.float64)
    if mean_image.shape != images.shape[1:] or not np.isfinite(mean_image).all():
        raise ValueError(
            f"the mean image is {mean_image.shape}; for images {images.shape} it must be "
            f"{images.shape[1:]} and finite"
        )
    _check_unit(mean_image[np.newaxis], "the mean image")
    return mean_image


def checked_rows(values, name: str, least: int = 2) -> np.ndarray:
    """A finite table (n, columns) as float64, with at least so many rows."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) < least or not values.shape[1]:
        raise ValueError(
            f"{name} is {values.shape}; it must be (n, columns) with at least {least} rows"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has entries that are not finite; leave those brains out")
    return values


def check_columns(**tables: np.ndarray) -> None:
    """Two tables of unequal numbers of columns are a ValueError that names them."""
    if len({table.shape[1] for table in tables.values()}) > 1:
        shapes = " and ".join(f"{name} {table.shape}" for name, table in tables.items())
        raise ValueError(f"{shapes} must have one number of columns")


def check_positive(**lengths: float) -> None:
    """Lengths that are neither positive nor finite are a ValueError that names them."""
    if not all(0 < length < np.inf for length in lengths.values()):
        values = " and ".join(f"{name}={length}" for name, length in lengths.items())
        raise ValueError(f"{values} must be positive and finite")
