"""`python -m proxquant_np` is the command line, wherever the script of that name is not found."""

import sys

from proxquant_np.cli import main

if __name__ == "__main__":
    sys.exit(main())
