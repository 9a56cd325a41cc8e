"""The one exception for mistakes a user can mend; command lines print it as one line and exit with 2."""


class UserError(Exception):
    """Bad input: the message says where, what is wrong, what was found and what to do, in one line."""
