"""Proxes of the field, by name, with their parameters: penalties as distances to levels."""

from __future__ import annotations

from typing import Any

from proxquant_np.conformance.rules import Named, made
from proxquant_np.prox import L0, L1, L2, MCP, ElasticNet, Huber, Levels, Regularizer

ZERO = {"set": Levels([0])}

PENALTIES: dict[str, Named] = {
    "soft_threshold": Named(L1, ZERO, ("levels",)),
    "ridge": Named(L2, ZERO, ("levels",)),
    "hard_threshold": Named(L0, ZERO, ("levels",)),
    "huber": Named(Huber, ZERO, ("levels", "gamma")),
    "mcp": Named(MCP, ZERO, ("levels", "gamma")),
    "elastic_net": Named(ElasticNet, ZERO, ("levels", "gamma")),
}
"""What `check_prox` knows beside PROXES."""


def penalty(name: str, **options: Any) -> Regularizer:
    """The regularizer that a name of PENALTIES says, with what is chosen.

    levels: from which the distance is taken, {0} by default. gamma: the knee of Huber's function
    and of MCP, the weight of the elastic net's quadratic part. ValueError for an unknown name, an
    option that it has not, or a value that is refused.

    Examples:
        >>> pq.conformance.penalty("mcp", gamma=2), pq.conformance.penalty("soft_threshold")
        (MCP(knee=2.0), L1(Levels(values=(0.0,))))
    """
    options = dict(options)
    if "levels" in options:
        options["levels"] = Levels(options["levels"])
    fields = {"levels": "set", "gamma": "ridge" if name == "elastic_net" else "knee"}
    return made(PENALTIES, fields, name, options)
