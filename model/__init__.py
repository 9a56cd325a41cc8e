"""Any-to-Bokeh networks and baselines."""
