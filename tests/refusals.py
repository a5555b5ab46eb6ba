"""What every test of refusals asks: an error in one line that names what is wrong."""

import pytest


def refused(cases):
    """Each (message, function, *arguments) is a ValueError of one line that matches its message."""
    for message, function, *arguments in cases:
        with pytest.raises(ValueError, match=message) as error:
            function(*arguments)
        assert "\n" not in str(error.value), message
