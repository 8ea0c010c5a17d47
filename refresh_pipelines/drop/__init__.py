"""Files that arrive in a folder: found, known to be stable, read one by one with a verdict each, and remembered."""
