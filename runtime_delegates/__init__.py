"""Runs exported programs: the C++ backend (kernels/, program/, executorch/) and, in Python, sessions and generation."""

FORMAT_VERSION = 1  # of the exported programs and models that this runtime can run
