"""The commands on packed networks: `pack` and `inspect`."""

from __future__ import annotations

import argparse
from typing import Any

from proxquant_np.commands.arguments import as_path
from proxquant_np.files import shown


def add_pack(commands: Any) -> None:
    """Add `pack`."""
    command = commands.add_parser(
        "pack",
        help="write a trained network with a few bits per weight",
        description="Quantize the network that a training checkpoint holds and write it packed.",
    )
    command.add_argument("checkpoint", type=as_path, help="file that training.fit saved")
    command.add_argument(
        "--out",
        type=as_path,
        default=None,
        help="file to write, .npz or .safetensors "
        "(default: CHECKPOINT with .packed.npz for its suffix)",
    )
    command.add_argument(
        "--regularizer", metavar="R", help="such as 'MultiBitL2(n_bits=2)' (default: the run's)"
    )
    command.set_defaults(run=_pack, mistakes=(ValueError, ModuleNotFoundError))


def _pack(options: argparse.Namespace) -> None:
    from proxquant_np import packing

    out = options.out or options.checkpoint.with_suffix(".packed.npz")
    text = options.regularizer
    chosen = None if text is None else packing.parse_regularizer(text)
    packing.pack_checkpoint(options.checkpoint, out, chosen)
    print(packing.table(out))
    print(f"wrote {shown(out)}")


def add_inspect(commands: Any) -> None:
    """Add `inspect`."""
    command = commands.add_parser(
        "inspect",
        help="what a packed file holds, layer by layer",
        description="Print for every array of a packed file its shape, bits, levels and bytes, how "
        "many times smaller it is than in float32, and the entropy of its codes in bits.",
    )
    command.add_argument("file", type=as_path, help="file that pack wrote")
    command.set_defaults(run=_inspect, mistakes=(ValueError, ModuleNotFoundError))


def _inspect(options: argparse.Namespace) -> None:
    from proxquant_np import packing

    print(packing.table(options.file))
