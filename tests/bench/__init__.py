"""`make bench`: what the bulk engine does and what it costs, measured from outside on simulated providers; see `__main__.py`."""
