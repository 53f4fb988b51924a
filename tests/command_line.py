"""The command line, run within the process of the tests."""

from proxquant_np import cli


def exit_code(*arguments):
    """How the command ends; SystemExit, which it raises for a bad argument, is an exit too."""
    try:
        return cli.main(arguments)
    except SystemExit as exit:
        return exit.code
