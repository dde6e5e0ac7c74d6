"""The one exception that means "the input is at fault", shared by every room."""


class InputError(ValueError):
    """Bad input, told in one line that names the input and the remedy.

    The command line prints the message without a traceback and exits with code 2.
    """
