"""Runs exported programs: the C++ backend (kernels/, program/, executorch/) and, in Python, sessions and generation."""
