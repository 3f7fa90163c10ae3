"""The command line: one file a group of commands, each a frozen dataclass of options with `run()`."""
