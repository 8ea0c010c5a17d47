"""Warehouse, history and operational store as one file that belongs together, and back from it."""
