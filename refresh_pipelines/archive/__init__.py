"""Every payload that came, kept once: `<data>/archive/<source>/<aa>/<sha256>.zst`, with what is known of it beside it.

A payload is one entry, whatever number of pages or files it came in (`entry`). Its bytes are compressed part by
part and found by their hash (`store`). What of it must not be kept is masked before (`clean`). Which entries were
accepted, in which order and when, stands in the journal of the source (`journal`), so that the table can be made
again from the folder alone.
"""
