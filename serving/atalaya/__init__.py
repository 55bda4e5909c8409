"""The `atalaya` command. Its cli.py is the one place that knows all packages, and imports them lazily."""
