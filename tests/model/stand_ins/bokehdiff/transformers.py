"""Stands in for transformers."""

from diffusers import Part


class CLIPTextModel(Part):
    pass


class CLIPTextModelWithProjection(Part):
    pass


class CLIPTokenizer(Part):
    pass
