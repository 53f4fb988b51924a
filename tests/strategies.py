"""Hypothesis strategies for arrays and for the arguments of operations.

Entries are odd multiples of 1/64 in [-4, 4], all different within an array, and different between
the first and the second array of an operation. So none lies at a kink (0, 1, -1, a tie) or close
enough to one to disturb a difference quotient, and float32 holds them exactly.
"""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

seeds = st.integers(0, 2**32 - 1)
layouts = st.sampled_from(["C", "Fortran", "strided", "read-only"])
MAX_SIDE = 3


def entries(shape, seed, which=0):
    """A float64 array as described above; `which` is the array's place among the arguments."""
    rng = np.random.default_rng([seed, which])
    chosen = rng.choice(128, int(np.prod(shape, dtype=int)), replace=False) - 64
    return ((4 * chosen + 1 + 2 * (which % 2)) / 64).reshape(shape)


def lay_out(x, layout):
    """The same array in another memory layout."""
    if layout == "Fortran":
        return x.copy("F")
    if layout == "strided" and x.ndim:
        wide = np.full(x.shape[:-1] + (2 * x.shape[-1],), np.nan, x.dtype)
        view = wide[..., ::-2]
        view[...] = x
        return view
    x = x.copy()
    x.flags.writeable = layout != "read-only"
    return x


def shapes(min_dims=0, max_dims=3, min_side=0, max_side=MAX_SIDE):
    """Shapes, zero-size and one-size axes among them."""
    return hnp.array_shapes(
        min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )


def axes(ndim):
    """One axis, negative or not."""
    return st.integers(-ndim, ndim - 1)


# What follows draws `(shapes of the tensor arguments, options)` for one kind of operation.


def elementwise(n=1):
    """n shapes that broadcast against each other."""
    drawn = hnp.mutually_broadcastable_shapes(
        num_shapes=n, max_dims=3, min_side=0, max_side=MAX_SIDE
    )
    return drawn.map(lambda found: (found.input_shapes, {}))


def with_options(arguments, **options):
    """The same arguments with further options, each drawn from its strategy."""
    return st.tuples(arguments, st.fixed_dictionaries(options)).map(
        lambda both: (both[0][0], {**both[0][1], **both[1]})
    )


@st.composite
def reductions(draw, least=0, several=True, **options):
    """A shape, `dim` and `keepdim`; reduced axes are at least `least` long."""
    shape = draw(shapes(min_dims=0 if several and least < 2 else 1))
    ndim = len(shape)
    one = axes(ndim) if ndim else st.nothing()
    dims = one
    if several:
        some = st.lists(st.integers(0, ndim - 1), min_size=1, unique=True) if ndim else st.nothing()
        dims = st.none() | one | some.map(lambda found: tuple(d - ndim for d in found))
    dim = draw(dims)
    reduced = range(ndim) if dim is None else np.mod(dim, ndim).ravel() if ndim else ()
    shape = tuple(max(n, least) if i in reduced else n for i, n in enumerate(shape))
    drawn = {name: draw(strategy) for name, strategy in options.items()}
    return (shape,), {"dim": dim, **drawn}


@st.composite
def matrix_products(draw):
    """Two shapes that can be multiplied as NumPy does it: vectors, matrices, batches."""
    signature = np.matmul.signature
    found = draw(
        hnp.mutually_broadcastable_shapes(
            signature=signature, max_dims=1, min_side=0, max_side=MAX_SIDE
        )
    )
    return found.input_shapes, {}


@st.composite
def linear_maps(draw):
    """Input, weight and, in one case of two, bias."""
    n_in, n_out = draw(st.tuples(st.integers(0, MAX_SIDE), st.integers(0, MAX_SIDE)))
    given = (draw(shapes(max_dims=2)) + (n_in,), (n_out, n_in))
    return given + (((n_out,),) if draw(st.booleans()) else ()), {}


@st.composite
def reshapings(draw):
    """A shape and another of the same size."""
    shape = draw(shapes())
    size = int(np.prod(shape, dtype=int))
    return (shape,), {"shape": draw(st.sampled_from([-1, (size,), shape[::-1], shape + (1,)]))}


@st.composite
def axis_pairs(draw):
    """A shape, `dim0` and `dim1`."""
    shape = draw(shapes(min_dims=1))
    return (shape,), {"dim0": draw(axes(len(shape))), "dim1": draw(axes(len(shape)))}


@st.composite
def axis_orders(draw):
    """A shape and all its axes in some order, some of them counted from the end."""
    shape = draw(shapes())
    order = draw(st.permutations(range(len(shape))))
    return (shape,), {"dims": tuple(d - len(shape) * draw(st.booleans()) for d in order)}


@st.composite
def indexings(draw):
    """A shape and an index: basic, integer arrays (with repeats), or a boolean mask."""
    kind = draw(st.sampled_from(["basic", "integers", "mask"]))
    shape = draw(shapes(min_dims=1, min_side=0 if kind != "integers" else 1))
    if kind == "basic":
        return (shape,), {"index": draw(hnp.basic_indices(shape, allow_newaxis=True, max_dims=4))}
    if kind == "integers":
        return (shape,), {"index": draw(hnp.integer_array_indices(shape))}
    return (shape,), {"index": draw(hnp.arrays(bool, shape))}


@st.composite
def joinings(draw, along_new_axis):
    """One to three shapes and `dim`."""
    shape = draw(shapes(min_dims=0 if along_new_axis else 1))
    dim = draw(axes(len(shape) + along_new_axis))
    given = [list(shape) for _ in range(draw(st.integers(1, 3)))]
    if not along_new_axis:
        for one in given:
            one[dim] = draw(st.integers(0, MAX_SIDE))
    return tuple(map(tuple, given)), {"dim": dim}


@st.composite
def paddings(draw):
    """A shape, `pad` for some of its last axes, `value`."""
    shape = draw(shapes())
    lengths = st.tuples(st.integers(0, 2), st.integers(0, 2))
    pairs = draw(st.lists(lengths, max_size=len(shape)))
    value = draw(st.sampled_from([0.0, -1.5]))
    return (shape,), {"pad": [n for pair in pairs for n in pair], "value": value}


@st.composite
def batches_of_channels(draw):
    """Input (n, c, ...), weight and bias (c,), n not so small that the variance is rounding."""
    channels = draw(st.integers(1, MAX_SIDE))
    shape = (draw(st.integers(4, 6)), channels) + draw(shapes(max_dims=2, min_side=1, max_side=2))
    return (shape, (channels,), (channels,)), {}


@st.composite
def classifications(draw):
    """Logits (n, c, ...) and integer targets."""
    shape = draw(shapes(min_dims=2, max_dims=4, min_side=1))
    targets = hnp.arrays(np.int64, shape[:1] + shape[2:], elements=st.integers(0, shape[1] - 1))
    return (shape,), {"target": draw(targets), "reduction": draw(reduction)}


@st.composite
def predictions(draw):
    """Two equal shapes and `reduction`."""
    how = draw(reduction)
    shape = draw(shapes(min_side=1 if how == "mean" else 0))
    return (shape, shape), {"reduction": how}


reduction = st.sampled_from(["mean", "sum", "none"])
