"""Data sets (above `theory`, below `training`; NumPy only). Every loader returns `Splits`."""

from proxquant_np.data.digits import load_digits
from proxquant_np.data.splits import Split, Splits

__all__ = ["Split", "Splits", "load_digits"]
