"""What every test of refusals asks: an error in one line that names what is wrong."""

import pytest


def refused(cases):
    """Each call of (message, call) is a ValueError of one line that matches its message."""
    for message, call in cases:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value), message
