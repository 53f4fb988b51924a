"""What people hold in their hands, as functions on NumPy arrays.

A function of torch tensors, a module with a state, a layer of Keras, a jitted function of JAX: all
of them are checked as functions on NumPy arrays. `recognised` finds out what fn is for when it is
first called, and keeps `notes` of what it had to do, for the report; `from_torch` and the others
say it beforehand.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from proxquant_np.autograd import Tensor

Function = Callable[..., Any]


class Misuse(Exception):
    """fn cannot be checked as it was passed; the message says why, and the remedy."""


def from_torch(fn: Function) -> Function:
    """fn on CPU tensors, as a function on NumPy arrays, which share memory with the tensors.

    Arrays go in as tensors and tensors come out as arrays, also in tuples, quantized tensors as
    what they stand for; anything else, such as a strength, is passed on unchanged. A function given
    as an argument (the gradient in `check_step`) then takes and returns tensors.

    fn may be a module. Its forward is what is checked; if its weight has parametrizations
    (torch.nn.utils.parametrize), it is they. So that it is a function of the weights alone, each
    call starts from the state in which the module was passed: observers and steps that calls
    initialise are initialised by each.

    ImportError, naming the extra, if torch is not installed.

    Examples:
        >>> import torch
        >>> prox = pq.conformance.from_torch(lambda x, strength: torch.relu(x - strength))
        >>> prox(np.array([0.5, 2.0]), 1.0)
        array([0., 1.])
    """
    torch = _module("torch", "proxquant-np[bench]")
    notes = {"adapter": "a function of torch tensors"}
    of_tensors = fn
    if isinstance(fn, torch.nn.Module):
        of_tensors = _of_module(torch, fn, notes)
    return _adapted(of_tensors, torch.from_numpy, "torch", notes, named=fn)


def from_jax(fn: Function) -> Function:
    """The same for JAX arrays, which are immutable copies.

    Unless jax_enable_x64 is set, JAX turns float64 into float32; then check with
    dtypes=["float32"]. (`check_gradient` notices this and takes wider steps.) ImportError if jax is
    not installed.

    Examples:
        >>> import jax
        >>> prox = pq.conformance.from_jax(lambda x, strength: jax.nn.relu(x - strength))
        >>> prox(np.array([0.5, 2.0], np.float32), 1.0)
        array([0., 1.], dtype=float32)
    """
    jax = _module("jax", "jax")
    notes = {"adapter": "a function of JAX arrays"}
    if not jax.config.jax_enable_x64:
        notes["adapter"] += ", which are float32 unless jax_enable_x64 is set"
    return _adapted(fn, jax.numpy.asarray, "jax", notes)


def from_tensorflow(fn: Function) -> Function:
    """The same for TensorFlow's tensors, and for layers of a Keras that computes with them.

    ImportError if tensorflow is not installed.

    Examples:
        >>> import tensorflow as tf
        >>> prox = pq.conformance.from_tensorflow(lambda x, strength: tf.nn.relu(x - strength))
        >>> prox(np.array([0.5, 2.0], np.float32), 1.0)
        array([0., 1.], dtype=float32)
    """
    tf = _module("tensorflow", "tensorflow")
    notes = {"adapter": "a function of TensorFlow tensors"}
    return _adapted(fn, tf.convert_to_tensor, "tensorflow", notes)


def from_keras(fn: Function) -> Function:
    """The same for Keras 3, with any of its backends, whose tensors go in and come out.

    A layer computes in the dtype of its policy, float32 unless another one was chosen; then check
    with dtypes=["float32"]. ImportError if keras is not installed.

    Examples:
        >>> import keras
        >>> prox = pq.conformance.from_keras(lambda x, strength: keras.ops.relu(x - strength))
        >>> prox(np.array([0.5, 2.0], np.float32), 1.0)
        array([0., 1.], dtype=float32)
    """
    keras = _module("keras", "keras")
    if not hasattr(keras, "ops"):  # before version 3 it was TensorFlow's alone
        return from_tensorflow(fn)
    backend = keras.backend.backend()
    notes = {"adapter": f"a function of Keras tensors, computed by {backend}"}
    policy = getattr(getattr(fn, "dtype_policy", None), "compute_dtype", None)
    if policy is not None:
        notes["adapter"] += f", in its policy's {policy}"
    return _adapted(fn, keras.ops.convert_to_tensor, "keras", notes)


ADAPTERS: dict[str, Callable[[Any], Any]] = {
    "torch": from_torch,
    "jax": from_jax,
    "tensorflow": from_tensorflow,
    "keras": from_keras,
}
"""The adapters, by the name of the library."""

OWNERS = {"torch": "torch", "keras": "keras", "tf_keras": "tensorflow", "tensorflow": "tensorflow"}
OWNERS |= {"jax": "jax", "jaxlib": "jax"}
"""The package in which the class of a module, layer or jitted function lies: its adapter."""


def recognised(fn: Function) -> Function:
    """fn as a function on NumPy arrays, whatever arrays it is for.

    A module, layer or jitted function is known by its class. Any other function is called with
    NumPy arrays; if it refuses them, or returns no array, with those of each library that has an
    adapter and is loaded. Tensors that come back are converted. If nothing serves, what the first
    call gave, or raised, is passed on. A class, or what was adapted already, is returned as it is.

    Examples:
        >>> from proxquant_np.conformance.adapters import recognised
        >>> fn = recognised(lambda w: np.sign(w))
        >>> fn(np.array([0.5, -2.0]))
        array([ 1., -1.])
    """
    if isinstance(fn, type) or hasattr(fn, "adapted_from"):
        return fn
    owner = next((OWNERS[top] for top in _tops(fn) if top in OWNERS), None)
    if owner is not None and owner in sys.modules:
        return ADAPTERS[owner](fn)
    return _Recognised(fn)


class _Recognised:
    """A function whose arrays are found out when it is called; `recognised` describes it."""

    def __init__(self, fn: Function):
        _name(self, fn)
        self.adapted_from, self.library = fn, None
        self.notes: dict[str, str] = {}
        self.chosen: Function | None = None

    def __call__(self, *args: Any) -> Any:
        if self.chosen is not None:
            return self.chosen(*args)
        before = [a.copy("K") if isinstance(a, np.ndarray) else a for a in args]
        direct = _adapted(self.adapted_from, None)
        try:
            given = self.adapted_from(*args)
            out = _out_of(given)
        except Misuse:
            raise
        except Exception:
            if _works(direct, before):  # it is loaded, or compiled, by the first call
                self.chosen = direct
            if self.chosen is not None or not self._tries_libraries(before):
                raise
            return self.chosen(*args)
        if is_result(out):
            self.chosen = direct
            if out is not given and not isinstance(given, tuple | list):
                of = type(given)
                self.notes["result"] = f"a {of.__module__.partition('.')[0]}.{of.__name__}"
        return self.chosen(*before) if self._tries_libraries(before) else out

    def _tries_libraries(self, args):
        """Whether the function works on the arrays of a library that is loaded; it is chosen."""
        for library, adapter in ADAPTERS.items():
            if self.chosen is None and _loaded(library, "__version__"):
                other = adapter(self.adapted_from)
                if _works(other, args):
                    self.chosen, self.library = other, library
                    self.adapted_from = other.adapted_from
                    self.notes |= other.notes
                    return True
        return False


def as_array(value: Any) -> Any:
    """A tensor, quantized or not, or what NumPy can convert, as an array; else value itself."""
    if isinstance(value, np.ndarray | np.generic):
        return value
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, tuple) and hasattr(value, "value"):  # a named tuple, with its scale
        return as_array(value.value)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        own = type(value).dequantize is not torch.Tensor.dequantize
        if value.is_quantized or own:
            value = value.dequantize()
        value = value.detach().cpu()
        try:
            return value.numpy()
        except TypeError:  # bfloat16 and others that NumPy has not
            return value.float().numpy()
    if callable(getattr(value, "dequantize", None)):
        return as_array(value.dequantize())
    if hasattr(value, "__array__") and not isinstance(value, type):  # JAX's, TensorFlow's, others'
        array = np.array(value)
        return array if array.dtype.kind != "O" else value
    return value


def _out_of(value):
    value = as_array(value)
    if isinstance(value, tuple | list):
        return (list if isinstance(value, list) else tuple)(map(_out_of, value))
    return value


def is_result(out: Any) -> bool:
    """Whether out is an array or a number, or a tuple of such."""
    if isinstance(out, tuple | list):
        return bool(out) and all(map(is_result, out))
    return isinstance(out, np.ndarray | np.number | float | int) and not isinstance(out, bool)


def _works(fn, args):
    try:
        copies = [a.copy("K") if isinstance(a, np.ndarray) else a for a in args]
        return is_result(fn(*copies))
    except Misuse:
        raise
    except Exception:
        return False


def _of_module(torch, module, notes):
    """What a torch module does to one tensor, from the state in which it is."""
    notes["adapter"] = "a torch module"
    if torch.nn.utils.parametrize.is_parametrized(module):
        name = next(iter(module.parametrizations))
        notes["adapter"] = f"the parametrizations of a torch module's {name}"
        module = torch.nn.Sequential(*module.parametrizations[name])
    elif getattr(getattr(module, "weight", None), "ndim", 0) > 1:
        return _refused(_no_layer(module))
    if not module.state_dict():
        return module
    try:
        copy.deepcopy(module)
    except Exception:  # some that hold compiled code, or results of a call
        return module

    @functools.wraps(module.forward)
    def fresh(*args: Any) -> Any:
        each = copy.deepcopy(module)
        out = each(*args)
        before, after = module.state_dict(), each.state_dict()
        changed = [k for k, v in after.items() if k not in before or not torch.equal(v, before[k])]
        if changed:
            names = ", ".join(changed[:4]) + ", ..." * (len(changed) > 4)
            notes["state"] = f"a call changes {names}; each starts from the state that was passed"
        return out

    return fresh


def _no_layer(module):
    parts = [name for name, _ in module.named_modules() if "quant" in name.lower()]
    hint = f", perhaps its {', '.join(parts[:3])}" if parts else ""
    return (
        f"{type(module).__name__} is a layer, which maps activations; pass what quantizes its "
        f"weight{hint}"
    )


def _refused(message):
    def refuse(*args: Any) -> Any:
        raise Misuse(message)

    return refuse


def _module(name, package):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed: install {package}") from error


def _loaded(library, name):
    """What a library calls so, if it is loaded; else None."""
    return getattr(sys.modules.get(library), name, None)


def _tops(fn):
    """The packages of the classes of an object, the nearest first."""
    return [cls.__module__.partition(".")[0] for cls in type(fn).__mro__]


def _name(wrapper, fn):
    """Names a wrapper after fn, and gives it the signature that a call must fit."""
    short = repr(fn)
    if "\n" in short or " at 0x" in short or len(short) > 60:
        short = type(fn).__name__
    wrapper.__name__ = getattr(fn, "__name__", short)
    wrapper.__doc__ = fn.__doc__
    inner = next((f for f in ("forward", "call") if inspect.ismethod(getattr(fn, f, None))), None)
    try:
        wrapper.__signature__ = inspect.signature(fn if inner is None else getattr(fn, inner))
    except (TypeError, ValueError):  # some functions written in C have none
        wrapper.__signature__ = inspect.signature(lambda *args: None)


def _adapted(fn, to, library=None, notes=None, *, named=None):
    """fn as a function on NumPy arrays, each of which goes in as to(array), if to is not None."""
    if isinstance(fn, type):
        return fn

    def into(value):
        if isinstance(value, np.ndarray):
            return to(value)
        if isinstance(value, tuple | list):
            return tuple(map(into, value))
        if callable(value):
            return lambda *args: into(value(*map(_out_of, args)))
        return value

    def adapted(*args: Any) -> Any:
        return _out_of(fn(*(args if to is None else map(into, args))))

    _name(adapted, fn if named is None else named)
    adapted.adapted_from, adapted.library = fn, library
    adapted.notes = {} if notes is None else notes
    return adapted
