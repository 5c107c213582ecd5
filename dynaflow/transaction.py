"""Writes that are committed together with a record's mark: once, really."""
