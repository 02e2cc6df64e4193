"""ExecuTorch's log, which goes to stderr."""

import contextlib
import os
import sys


@contextlib.contextmanager
def quiet_log(verbose: bool = False):
    """Drops what ExecuTorch logs while a program loads: its sentences are in our errors, the rest is noise."""
    if verbose:
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):  # it writes to both
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
