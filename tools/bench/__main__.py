"""`python -m tools.bench`, as `mesh bench`."""

from tools.bench.command import command

command(prog_name="mesh bench")
