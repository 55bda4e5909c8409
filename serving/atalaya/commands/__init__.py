"""One file a command: `add_arguments(parser)` is light, `run(args) -> int` imports what it needs."""
