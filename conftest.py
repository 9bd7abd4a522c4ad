"""What doctests cannot import where an optional library is missing."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["gpuconv/compat/torch*.py"]
