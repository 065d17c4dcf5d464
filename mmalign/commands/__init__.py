"""The verbs of the command, one small file a group; `mmalign.__main__` alone puts them together."""
