"""Experiments (above everything but the command line): one file a claim, and what all share.

runner.py         runs cells, one JSON record each
workers.py        where they run: here, in processes, on a cluster
statistics.py     paired comparisons and verdicts
tasks.py          what a network is trained on
protocol.py       the methods, and the paper's protocol by which each trains
experiment.py     what an experiment is, how it is run, searched, summed up
theorems.py       the theorems, tried on random problems
catalog.py        every experiment by its name
claims.py         the ledger: every claim, and what the records say of it

binary_digits.py   ProxQuant against BinaryConnect on handwritten digits, binary weights
resnet_cifar10.py  binary and ternary residual networks on CIFAR-10
language_model.py  LSTMs of 1, 2 and 3 bits
stability.py       which signs change, from two starts
regime_map.py      width and step budget: where eager wins, where lazy
ablation.py        what published code did differently, one thing at a time
methods.py         the four cells of the table and three methods more

settling.py        who flips for how long, and when all weights are quantized
quantizer_gaps.py  trained weights, to measure heuristic quantizers on
figures.py         every figure by name
"""

EXPERIMENTS = (
    "binary_digits",
    "resnet_cifar10",
    "language_model",
    "stability",
    "regime_map",
    "ablation",
    "methods",
)
"""The names of the experiments that `proxquant-np experiment` runs, each a module here."""
