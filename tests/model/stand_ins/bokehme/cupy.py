"""Stands in for a recent CuPy, which has dropped two names that the checkout uses."""

import types

cuda = types.SimpleNamespace()


class RawModule:
    def __init__(self, code):
        self.code = code

    def get_function(self, name):
        assert name in self.code
        return name
