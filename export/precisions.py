"""Names of the precisions, for modules that do without torch too."""

QUANTS = ("fp32", "int8", "int4")  # of weights, from fine to coarse; their places are ids in packed files
KV_QUANTS = ("fp32", "int8")  # of key/value caches
