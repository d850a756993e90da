"""The command line, `moa`. It knows the pack; nothing below knows it.

Importing this package, or its `__main__`, needs neither typer nor rich.
"""
