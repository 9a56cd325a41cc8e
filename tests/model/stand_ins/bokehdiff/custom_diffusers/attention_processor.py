"""Stands in for the plain attention."""


class AttnProcessor2_0:  # noqa: N801
    pass
