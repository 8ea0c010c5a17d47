"""The log for people and log shippers: one line for each thing that happens, text or JSON, in a file of its own.

Belongs here: what an event is called and which fields it has (`events`), how a line is written (`lines`), the file and
its rotation (`file`), and what is left out of every line (`secrets`). What became of a refresh is in Dagster's event
log, the only copy; this one may be lost, and never stops a refresh.
"""

from refresh_pipelines.log.events import EVENTS
from refresh_pipelines.log.journal import bound, configure, event, guard, once, switch_off

__all__ = ["EVENTS", "bound", "configure", "event", "guard", "once", "switch_off"]
