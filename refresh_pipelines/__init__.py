"""Keep public data fresh: one YAML file per source, refreshed by Dagster into a warehouse."""

__version__ = "0.1.0"
