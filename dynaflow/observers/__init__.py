"""Observers to choose from; each is a module of its own, because each may want an extra."""
