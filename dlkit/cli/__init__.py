"""The commands: parse, read the config, run the task, show the result."""
