"""The parts of tools/cuda_check.py.

plans, targets, table, parts    what is measured and shown, and the programs that measure: standard library only
child                           one such program: the host in its own process
host, models, meter, calls, training, sampling    what it does there
"""
