"""Which families there are."""

FAMILIES = {}


def family(function):
    """Registers a function under its name."""
    FAMILIES[function.__name__.rstrip("_")] = function
    return function
