"""What runs for years: the processes and who looks after them, and the checks of `refresh doctor`."""
