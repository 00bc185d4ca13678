"""The `mesh` command, the demo and the benchmarks."""
