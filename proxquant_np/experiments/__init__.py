"""Experiments (above everything but the command line): one file a claim, and what all share.

runner.py         runs the cells of an experiment in parallel, one JSON record each
statistics.py     paired comparisons and verdicts
binary_digits.py  ProxQuant against BinaryConnect on handwritten digits, binary weights
quantizer_gaps.py  how far heuristic quantizers are from the exact projection
"""
