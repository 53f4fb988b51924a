"""An array of another library, to hold the package to NumPy's two protocols without a GPU.

A `Duck` computes with NumPy, so that results can be compared to the bit, but behaves as CuPy's
arrays do where they are stricter than NumPy's: it is not converted implicitly, does not mix with
NumPy's arrays (numbers of Python and NumPy are fine), refuses the functions that CuPy refuses, and
gives arrays without axes where NumPy gives numbers. It has what docs/other_arrays.md lists, and
refuses everything else, so the lists there are whole.

`waits()` counts how often the host had to wait for the device: for every number, truth value or
copy that it asked for, and for every result whose shape depends on values.
"""

import re
from pathlib import Path

import numpy as np

_PAGE = Path(__file__).parents[1] / "docs" / "other_arrays.md"
LISTS = {
    kind: set(names.split())
    for kind, names in re.findall(r"```text (\w+)\n(.*?)```", _PAGE.read_text("utf-8"), re.DOTALL)
}
_REFUSED = {
    "ascontiguousarray",
    "as_strided",
    "insert",
    "ones",  # with `like`, these hand a keyword over that CuPy does not know
    "full",
    "eye",
}
_REFUSED_OPTIONS = {
    "take": {"mode"},
    "pinv": {"hermitian", "rtol"},
    "unpackbits": {"count"},
    **{key: {"initial", "where"} for key in ("sum", "prod", "max", "min", "mean", "any", "all")},
}
_NOT_REDUCED = {np.maximum, np.minimum}
_SHAPED_BY_VALUES = {np.nonzero, np.flatnonzero, np.argwhere, np.unique}
_WITHOUT_AXES = {np.array_equal, np.count_nonzero, np.allclose}  # numbers, for NumPy
_count = 0


def waits():
    """How often the host has waited so far."""
    return _count


def _wait():
    global _count
    _count += 1


def asduck(a):
    """Move an array to the device; what is there already stays as it is."""
    return a if isinstance(a, Duck) else Duck(np.array(a))


def asnumpy(a):
    """Copy an array to the host."""
    if not isinstance(a, Duck):
        return np.asarray(a)
    _wait()
    return a._a.copy()


def _check_listed(kind, name):
    if name not in LISTS[kind]:
        raise TypeError(f"{name} is not among the {kind} of docs/other_arrays.md")


def _wrap(result):
    if isinstance(result, np.ndarray | np.generic):
        return Duck(np.asarray(result))
    if isinstance(result, tuple | list):
        make = getattr(type(result), "_make", type(result))  # that of a named tuple
        return make(map(_wrap, result))
    return result


def _unwrap(value, mixing=False):
    """The NumPy arrays of ducks; NumPy's own are refused."""
    if isinstance(value, Duck):
        return value._a
    if isinstance(value, np.ndarray) and not mixing:
        raise TypeError(f"Unsupported type {type(value)}: arrays of two libraries do not mix")
    if isinstance(value, tuple | list):
        return type(value)(_unwrap(v, mixing) for v in value)
    if isinstance(value, dict):
        return {k: _unwrap(v, mixing) for k, v in value.items()}
    return value


class _Flags:
    """Without `writeable`, which arrays of CuPy do not have."""

    def __init__(self, flags):
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.forc, self.fnc, self.owndata = flags.forc, flags.fnc, flags.owndata


class Duck:
    """Not a NumPy array, but it quacks like one."""

    __slots__ = ("_a",)

    def __init__(self, a):
        self._a = a

    def __array__(self, *args, **options):
        raise TypeError("implicit conversion to a NumPy array is not allowed: use asnumpy()")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if ufunc is np.vecdot or (method == "reduce" and ufunc in _NOT_REDUCED):
            raise NotImplementedError(f"{ufunc.__name__}.{method}")
        _check_listed("ufuncs", ufunc.__name__ + f".{method}".removesuffix(".__call__"))
        if "where" in options and method == "__call__":
            raise TypeError(f"{ufunc.__name__}: where is not supported")
        if method == "__call__" and any(isinstance(x, list | tuple) for x in inputs):
            raise TypeError(f"{ufunc.__name__}: lists are not arrays")
        options = _unwrap(options)
        if out is not None:
            options["out"] = _unwrap(out)
        result = getattr(ufunc, method)(*_unwrap(inputs), **options)
        if out is not None:
            return out[0] if len(out) == 1 else out
        return _wrap(result)

    def __array_function__(self, func, types, args, kwargs):
        name = func.__name__
        _check_listed("functions", f"{func.__module__}.{name}".removeprefix("numpy."))
        refused = kwargs.keys() & _REFUSED_OPTIONS.get(name, ())
        if name in _REFUSED or refused:
            raise TypeError(f"{name} is not implemented for {type(self)} {refused or ''}")
        if func in _SHAPED_BY_VALUES:
            _wait()
        out = kwargs.get("out")
        mixing = func in (np.array, np.asarray, np.asanyarray)  # which is what moves arrays
        result = func(*_unwrap(args, mixing), **_unwrap(kwargs, mixing))
        if func in _WITHOUT_AXES:
            result = np.asarray(result)
        return _wrap(result) if out is None else out

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    itemsize = property(lambda self: self._a.itemsize)
    nbytes = property(lambda self: self._a.nbytes)
    flags = property(lambda self: _Flags(self._a.flags))
    base = property(lambda self: self._a.base)
    real = property(lambda self: Duck(self._a.real))  # for op_registry.py alone
    T = property(lambda self: Duck(self._a.T))
    mT = property(lambda self: Duck(self._a.mT))

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        if any(getattr(p, "dtype", None) == np.bool_ for p in parts):
            _wait()
        return _wrap(self._a[_unwrap(index)])

    def __setitem__(self, index, value):
        self._a[_unwrap(index)] = _unwrap(value)

    def __bool__(self):
        _wait()
        return bool(self._a)

    def __int__(self):
        _wait()
        return int(self._a)

    def __float__(self):
        _wait()
        return float(self._a)

    def item(self, *args):
        _wait()
        return self._a.item(*args)

    def tolist(self):
        _wait()
        return self._a.tolist()

    def tobytes(self):
        _wait()
        return self._a.tobytes()

    def __repr__(self):
        return f"Duck({self._a!r})"

    __hash__ = None


def _operators():
    def binary(ufunc):
        forward = lambda a, b: _binary(ufunc, a, b)  # noqa: E731
        return forward, lambda a, b: _binary(ufunc, b, a), lambda a, b: ufunc(a, b, out=(a,))

    for name, ufunc in [
        ("add", np.add),
        ("sub", np.subtract),
        ("mul", np.multiply),
        ("truediv", np.true_divide),
        ("floordiv", np.floor_divide),
        ("mod", np.remainder),
        ("pow", np.power),
        ("matmul", np.matmul),
        ("and", np.bitwise_and),
        ("or", np.bitwise_or),
        ("xor", np.bitwise_xor),
        ("lshift", np.left_shift),
        ("rshift", np.right_shift),
    ]:
        for prefix, method in zip(("", "r", "i"), binary(ufunc), strict=True):
            setattr(Duck, f"__{prefix}{name}__", method)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        ufunc = {
            "eq": np.equal,
            "ne": np.not_equal,
            "lt": np.less,
            "le": np.less_equal,
            "gt": np.greater,
            "ge": np.greater_equal,
        }[name]
        setattr(Duck, f"__{name}__", binary(ufunc)[0])
    for name, ufunc in [
        ("neg", np.negative),
        ("pos", np.positive),
        ("abs", np.absolute),
        ("invert", np.invert),
    ]:
        setattr(Duck, f"__{name}__", lambda a, ufunc=ufunc: ufunc(a))


def _binary(ufunc, a, b):
    other = b if isinstance(a, Duck) else a
    if getattr(type(other), "__array_ufunc__", 0) is None:  # a Tensor, which takes over
        return NotImplemented
    return ufunc(a, b)


def _methods():
    def delegated(name):
        def method(self, *args, **options):
            out = options.get("out")
            result = getattr(self._a, name)(*_unwrap(args), **_unwrap(options))
            return _wrap(result) if out is None else out

        return method

    for name in LISTS["methods"] - vars(Duck).keys():
        setattr(Duck, name, delegated(name))


_operators()
_methods()
