"""What the command line does, one command a file. ``worker/cli.py`` parses and dispatches."""

__all__: list[str] = []
