"""The command `proxquant-np`. It lies beside the package, so that Ctrl-C is one line from the first
moment: importing anything of the package loads NumPy first, for the larger part of a second.
"""

import os
import signal
import sys


def main() -> int:
    """Load and run `proxquant_np.cli`; its exit code."""

    def end(signum: int, frame: object) -> None:  # nothing has begun
        os.write(2, b"\nstopped\n")
        os._exit(128 + signum)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    from proxquant_np import cli

    try:
        signal.signal(signal.SIGINT, before)
        return cli.main()
    except KeyboardInterrupt:  # before cli.main can tell it better
        print("\nstopped", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
