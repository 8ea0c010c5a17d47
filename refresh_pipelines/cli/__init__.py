"""The `refresh` command: one small module per command; importing one imports only what it needs."""
