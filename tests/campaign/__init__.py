"""A fault campaign against the real product: see __main__.py."""
