"""`mesh bench`: the mesh and its peers on one machine, in one run, by one method.

plan            what a benchmark is made of
suite*          the benchmarks
runner          interleaves them
results, plot   medians, ratios, goals; tables and pictures (pure)
peers           other systems; `daemons`, `child`: their processes
counts          hot paths counted in bytecodes, against a kept baseline
"""
