"""Scripts that the Python of a checkout runs: they import nothing of focuspull and work from Python 3.7 on.

What a checkout brings is imported by name at run time, since none of it is installed here. `loop` is common
to all; the others load one system each and blur with it.
"""
