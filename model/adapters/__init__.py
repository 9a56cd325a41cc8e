"""Published bokeh systems in the user's own checkout, with its own weights and its own Python.

Nothing of theirs is in this package: `process` runs a checkout as a child process and exchanges arrays with
it, `systems` translates our disparity, K, focus and colour into what each system takes and back, `child`
has the scripts that the user's Python runs, `config` reads where everything is, and `self_test` measures on
any renderer whether K means what it should.
"""
