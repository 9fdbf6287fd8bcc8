"""Which families there are."""

FAMILIES = {}


def family(function, name=None):
    """Registers a function under its name or another."""
    FAMILIES[name or function.__name__.rstrip("_")] = function
    return function


def family_of_each(operators):
    """Registers a function of a draft and an operator once for each of them."""

    def register(function):
        for op in operators:
            family(lambda d, op=op: function(d, op), op.lower())
        return function

    return register
