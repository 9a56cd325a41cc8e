"""Bokeh without weights: published image-space renderers, written anew from their formulas.

All of them blur light (`focuspull.model.light`), frame by frame, from clip-level constants only: nothing
is normalised per frame, so a frame does not depend on its neighbours and the blur of a still scene does
not flicker. They share one kernel (`focuspull.model.baselines.lens`): what differs between them is how
they treat occlusion. Colours above display white are clipped in their input, which no renderer here can
undo.
"""
