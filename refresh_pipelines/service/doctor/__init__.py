"""The checks of `refresh doctor`: known traps, whether each holds here, and how to mend it. They change nothing."""
