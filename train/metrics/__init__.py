"""Measures of predicted bokeh."""
