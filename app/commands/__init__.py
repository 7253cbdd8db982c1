"""The groups of the `lodestar` command, one module each."""
