"""Stands in for the attention that sees defocus."""


class AttnProcessorDistReciprocal:
    def __init__(self, hard, supersampling_num, segment_num, train):
        assert not train
