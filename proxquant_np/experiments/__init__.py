"""Experiments (above everything but the command line): one file a claim, and what all share.

runner.py          runs the cells of an experiment in parallel, one JSON record each
statistics.py      paired comparisons and verdicts
tasks.py           the networks and data that the main comparison runs on
binary_digits.py   ProxQuant against BinaryConnect on handwritten digits, binary weights
settling.py        who flips for how long, and when all weights are quantized
quantizer_gaps.py  trained weights, to measure heuristic quantizers on
figures.py         every figure by name
"""
