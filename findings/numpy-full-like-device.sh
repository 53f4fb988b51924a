#!/usr/bin/env bash
# Expected (NEP 35): np.full(shape, value, like=x) asks the library of x with the arguments that the
# caller gave, as np.zeros and np.empty do; so it makes a CuPy array where they do.
# What happens: np.full, np.ones and np.eye are written in Python and hand over order= and device=
# (None), too. CuPy's functions of these names have no `device`, so with CuPy arrays they fail with a
# TypeError about a keyword that nobody gave; np.zeros and np.empty, written in C, do not.
# np.full_like(x, value, shape=shape) hands over what was given. NumPy 2.4.0, CuPy 14.2.0, 2026-11.
# Exits non-zero if either does otherwise. Needs no GPU: of CuPy only the signatures are read.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/like.py" <<'PYTHON'
import inspect
import sys

import cupy
import numpy as np


class Recorder:
    """An array that only says what it is asked."""

    def __array_function__(self, function, types, args, kwargs):
        return args, kwargs


x = Recorder()
print("numpy", np.__version__, "cupy", cupy.__version__)
calls = {
    "zeros": lambda: np.zeros(3, like=x),
    "empty": lambda: np.empty(3, like=x),
    "full_like": lambda: np.full_like(x, 1.0, shape=(3,)),
    "full": lambda: np.full(3, 1.0, like=x),
    "ones": lambda: np.ones(3, like=x),
    "eye": lambda: np.eye(3, like=x),
}
accepted = {}
for name, call in calls.items():
    args, kwargs = call()
    try:
        inspect.signature(getattr(cupy, name)).bind(*args, **kwargs)
        accepted[name] = True
    except TypeError as error:
        accepted[name] = False
        print(f"np.{name} hands over {kwargs}; cupy.{name}: {error}")
    else:
        print(f"np.{name} hands over {kwargs or 'no keywords'}; cupy.{name} takes that")
sys.exit([name for name, fits in accepted.items() if not fits] != ["full", "ones", "eye"])
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "numpy==2.4.0" "cupy-cuda12x==14.2.0"
"$folder/venv/bin/python" -W ignore "$folder/like.py"
