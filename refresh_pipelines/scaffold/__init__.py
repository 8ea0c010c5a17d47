"""A new source from one payload: what `refresh new` writes. Guesses once, for a person to read and correct.

`recognise` finds the format, `columns` the types, `keys` the merge key, `address` what may stand in
the YAML of a URL, `text` the YAML itself and `samples` what lies beside it.
"""
