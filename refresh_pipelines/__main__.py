"""`python -m refresh_pipelines` is the `refresh` command."""

from refresh_pipelines.cli.main import main

if __name__ == "__main__":
    main(prog_name="refresh")
