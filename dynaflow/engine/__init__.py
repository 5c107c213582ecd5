"""Runs a batch: lanes side by side, each in order, and says exactly what is not done."""
