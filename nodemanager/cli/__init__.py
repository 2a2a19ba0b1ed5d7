"""The subcommands beside the daemon: what operators and users ask and say from a terminal or a script.

`commands` is the table of them, a module each group. A command is a function of a `Site` (whom to ask), its
flags, and an `Out` (where to answer), and returns the exit status.
"""
