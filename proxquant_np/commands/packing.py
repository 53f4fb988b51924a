"""The commands on packed networks: `pack`, `inspect` and `deploy`."""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from proxquant_np.commands.arguments import Mistake, as_path, as_shape
from proxquant_np.files import shown
from proxquant_np.training.progress import say


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


def add_deploy(commands: Any) -> None:
    """Add `deploy`."""
    command = commands.add_parser(
        "deploy",
        help="write a quantized network for another runtime, exactly, and check it there",
        description="Write the quantized network of a training checkpoint, or of a packed file, as "
        "an ONNX graph whose weights stay packed, and run it with ONNX Runtime, if that is "
        "installed: all of its quantized weights must be equal to the bit.",
    )
    command.add_argument("file", type=as_path, help="file that training.fit or pack wrote")
    command.add_argument("--to", choices=["onnx"], required=True, help="the format to write")
    command.add_argument(
        "--out", type=as_path, help="file to write (default: FILE with .onnx for its suffix)"
    )
    command.add_argument(
        "--operator",
        choices=["Gather", "DequantizeLinear", "MatMulNBits"],
        default="Gather",
        help="what makes weights of codes: a table, for any levels, smallest (default); or a step, "
        "for equidistant levels in 2, 4 or 8 bits, alone or inside ONNX Runtime's own product",
    )
    command.add_argument(
        "--input-shape",
        type=as_shape,
        metavar="SHAPE",
        help="of one input, such as 3x32x32 (default: that of an MLP)",
    )
    command.add_argument(
        "--regularizer", metavar="R", help="such as 'MultiBitL2(n_bits=2)' (default: the run's)"
    )
    command.set_defaults(run=_deploy, mistakes=(ValueError, TypeError, ModuleNotFoundError))


def _deploy(options: argparse.Namespace) -> int:
    from proxquant_np import packing

    out = options.out or options.file.with_suffix(".onnx")
    if out.exists() and out.samefile(options.file):
        raise Mistake(f"{shown(out)} is the network itself: choose another file to write")
    with tempfile.TemporaryDirectory() as folder:
        packed = _packed(options.file, options.regularizer, Path(folder))
        packing.to_onnx(packed, out, options.input_shape, options.operator)
        sizes = [path.stat().st_size for path in (out, packed)]
        print(
            f"wrote {shown(out)}: {sizes[0]:,} bytes, {sizes[0] / sizes[1]:.2f} times the packed "
            f"file of {sizes[1]:,}"
        )
        if importlib.util.find_spec("onnxruntime") is None:
            print("not checked: onnxruntime is not installed (pip install 'proxquant-np[interop]')")
            return 0
        try:
            checked = packing.check_onnx(packed, out)
        except ValueError as error:
            say(f"proxquant-np: {shown(' '.join(str(error).split()))}")
            return 1
    print(
        f"checked with ONNX Runtime {checked.version}: {checked.weights} quantized weights equal "
        f"to the bit, outputs within {checked.difference:.1g} of the largest"
    )
    return 0


def _packed(file: Path, regularizer: str | None, folder: Path) -> Path:
    """The file itself, if it is packed, else the network of a checkpoint, packed."""
    from proxquant_np import packing
    from proxquant_np.packing.file import read_packed

    try:
        read_packed(file)
    except packing.PackedError:
        packed = folder / "network.npz"
        chosen = None if regularizer is None else packing.parse_regularizer(regularizer)
        packing.pack_checkpoint(file, packed, chosen)
        return packed
    if regularizer is not None:
        raise Mistake(f"{shown(file)} is packed, its weights quantized: leave out --regularizer")
    return file
