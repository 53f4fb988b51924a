"""What a result was made with: the code, the versions and the machine.

The same code, NumPy and Python give the same numbers up to rounding. With the same BLAS kernel
(which BLAS chooses for the processor), device and thread count they give the same bits.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np.autograd import threads
from proxquant_np.files import shown

__version__ = "0.2.0"

_ROOT = Path(__file__).parent
_BINARY = {".npz"}


def environment(device: str = "cpu") -> dict[str, Any]:
    """The code, the versions and the machine of this process; None where unknown.

    device: what it computes on, one of `libraries.DEVICES`. A GPU's record has its name, and the
    versions of its libraries under "libraries".

    Examples:
        >>> from proxquant_np.provenance import environment
        >>> environment()["numpy"] == np.__version__
        True
    """
    return {
        "proxquant_np": __version__,
        "revision": _revision(),
        "digest": package_digest(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "blas": threads.blas_kernel(),
        "cores": os.cpu_count(),
        **({"device": "cpu"} if device == "cpu" else _gpu(device)),
    }


def _gpu(library: str) -> dict[str, Any]:
    """The name of the device that a library other than NumPy computes on, and its versions."""
    module = importlib.import_module(library)
    made = {"device": library, "libraries": {library: module.__version__}}
    with contextlib.suppress(AttributeError):  # a library that is not for CUDA
        runtime, cublas = module.cuda.runtime, module.cuda.cublas
        made["device"] = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
        made["libraries"]["cuda"] = _version(runtime.runtimeGetVersion(), 1000, 10)
        handle = module.cuda.device.get_cublas_handle()
        made["libraries"]["cublas"] = _version(cublas.getVersion(handle), 10_000, 100)
    return made


def _version(number: int, major: int, minor: int) -> str:
    """CUDA's numbers in words: 12080, say, with 1000 to the major version, is 12.8."""
    return f"{number // major}.{number % major // minor}"


@functools.cache
def _revision() -> str | None:
    """The commit of the checkout that this package runs from, marked if files were changed.

    What is installed from a wheel tells the commit that it was built from: hatch_build.py wrote it.
    """
    if not (_ROOT.parent / ".git").exists():
        with contextlib.suppress(OSError):
            return (_ROOT / ".revision").read_text("utf-8").strip() or None
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    with contextlib.suppress(OSError):  # no git
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
        return done.stdout.strip() or None
    return None


@functools.cache
def package_digest() -> str:
    """SHA-256 of this package's files, the same wherever it is installed.

    It covers names and contents, with line ends normalized. Caches and hidden files are left out,
    and so are the choices of searches, which each record has among its arguments.

    Examples:
        >>> from proxquant_np.provenance import package_digest
        >>> len(package_digest())
        64
    """
    found = hashlib.sha256()
    files = (path for path in _ROOT.rglob("*") if path.is_file())
    names = {path.relative_to(_ROOT).as_posix(): path for path in files}
    for name in sorted(names):
        *folders, file = name.split("/")
        cached = "__pycache__" in folders or file.endswith((".pyc", ".pyo"))
        chosen = folders[:1] == ["experiments"] and file.endswith(".json")
        if cached or chosen or any(part.startswith(".") for part in (*folders, file)):
            continue
        content = names[name].read_bytes()
        if names[name].suffix not in _BINARY:
            content = content.replace(b"\r\n", b"\n")
        found.update(f"{name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


@functools.cache
def _processor() -> str | None:
    """The processor's name, which on Linux Python itself does not know."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def is_same_code(made: Mapping[str, Any]) -> bool:
    """Whether a record was made by the code, the NumPy and the Python of this process.

    The package's digest decides or, in records without one, an unchanged revision. A record with
    neither does not count as the same. The machine does not matter here.

    Examples:
        >>> from proxquant_np.provenance import environment, is_same_code
        >>> is_same_code(environment()), is_same_code({**environment(), "numpy": "1.0"})
        (True, False)
    """
    now = environment()
    if any(made.get(name) != now[name] for name in ("proxquant_np", "numpy", "python")):
        return False
    if made.get("digest") is not None:
        return made["digest"] == now["digest"]
    revision = made.get("revision")
    return revision is not None and "-" not in revision and revision == now["revision"]


def grouped(made: Iterable[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """[{"runs": count, "environment": ...}, ...], the largest first; None: not recorded.

    Examples:
        >>> from proxquant_np.provenance import grouped
        >>> grouped([{"numpy": "2.4"}, None, {"numpy": "2.4"}])
        [{'runs': 2, 'environment': {'numpy': '2.4'}}, {'runs': 1, 'environment': None}]
    """
    groups: list[dict[str, Any]] = []
    for one in made:
        for group in groups:
            if group["environment"] == one:
                group["runs"] += 1
                break
        else:
            groups.append({"runs": 1, "environment": None if one is None else dict(one)})
    return sorted(groups, key=lambda group: -group["runs"])


def described(groups: list[Mapping[str, Any]]) -> list[str]:
    """Groups of runs in words, one line each: "n of m runs are from ...".

    Examples:
        >>> from proxquant_np.provenance import described
        >>> described([{"runs": 3, "environment": None}])
        ['3 of 3 runs are from code and machines that were not recorded']
    """
    total = sum(group["runs"] for group in groups)
    return [f"{g['runs']} of {total} runs are from {in_words(g['environment'])}" for g in groups]


def in_words(made: Mapping[str, Any] | None) -> str:
    """An environment in words; what an old record lacks is called unknown.

    Examples:
        >>> from proxquant_np.provenance import in_words
        >>> made = {"proxquant_np": "1.0", "python": "3.12", "numpy": "2.4", "machine": "arm64"}
        >>> in_words(made)  # doctest: +NORMALIZE_WHITESPACE
        'proxquant_np 1.0 at revision unknown, digest unknown, Python 3.12, NumPy 2.4 on arm64
        (BLAS kernel unknown, device unknown)'
    """
    if made is None:
        return "code and machines that were not recorded"
    commit, _, dirty = (made.get("revision") or "unknown").partition("-")
    names = ("digest", "python", "numpy", "machine", "blas", "device")
    digest, python, numpy, machine, blas, device = (made.get(name) or "unknown" for name in names)
    if made.get("libraries"):
        device += " with " + ", ".join(f"{name} {v}" for name, v in made["libraries"].items())
    return shown(  # a record may be from anywhere
        f"proxquant_np {made['proxquant_np']} at revision {commit[:12]}{dirty and ', changed'}, "
        f"digest {digest[:12]}, Python {python}, NumPy {numpy} on {machine} (BLAS kernel {blas}, "
        f"device {device})"
    )
