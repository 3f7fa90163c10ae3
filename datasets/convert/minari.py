"""Minari datasets, both ways; `minari_writer.py` and `minari_reader.py` do the work."""

from understudy.datasets.convert.minari_reader import MinariImport, read
from understudy.datasets.convert.minari_writer import MinariExport, write

__all__ = ["MinariExport", "MinariImport", "read", "write"]
