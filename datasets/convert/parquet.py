"""Reading Parquet that a stranger may have written: what it claims is weighed before it is read, rows come in batches.

Owns limits and the way from Arrow columns to arrays of plain numbers. It knows no format.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert.incoming import require_plain_file
from understudy.errors import DatasetError

_WRONG = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError, OverflowError)
"""What pyarrow raises on files that are not what they should be: its own errors derive from these."""
_BATCH = 64
"""Rows at a time: frames are large."""
_TEXT_LIMIT, _LIST_LIMIT = 16 << 20, 1 << 20
_DENSEST = 1100
_SLACK = 1 << 20
_ROWS_A_BYTE = 16
"""A row that carries a counter takes more than this in any encoding; a file with more rows is a trap."""
_DEEPEST = 8


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Open a table; whatever goes wrong with it inside the block becomes one sentence that names it.

    Raises:
        DatasetError: missing, a link, unreadable, or claiming more than its bytes can hold.
    """
    import pyarrow.parquet as pq

    require_plain_file(path)
    try:
        with pq.ParquetFile(
            path,
            thrift_string_size_limit=_TEXT_LIMIT,
            thrift_container_size_limit=_LIST_LIMIT,
            pre_buffer=False,
            page_checksum_verification=True,
        ) as file:
            _require_plausible(file.metadata, path)
            yield file
    except DatasetError as error:
        message = str(error)
        raise DatasetError(message if str(path) in message else f"{path}: {message}") from error
    except _WRONG as error:
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise DatasetError(f"{path}: not a readable table ({reason}).") from error


def _require_plausible(metadata: Any, path: Path) -> None:
    size = path.stat().st_size
    if metadata.num_rows > _ROWS_A_BYTE * size:
        raise DatasetError(f"{path} claims {metadata.num_rows} rows in {size} bytes; it is damaged or a trap.")
    # Not by column: pyarrow ends the whole process over some that are damaged when it is asked of one.
    sizes = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
    if min(sizes, default=0) < 0:
        raise DatasetError(f"{path} claims row groups of negative size; it is damaged.")
    claimed = sum(sizes)
    if claimed > _DENSEST * size + _SLACK:
        raise DatasetError(f"{path} claims {claimed} bytes in {size}; it is damaged or a trap.")


class Rows:
    """The rows of an open table, from the first on, in steps of any length."""

    def __init__(self, file: Any, columns: Sequence[str]) -> None:
        """Nothing is read yet.

        Raises:
            DatasetError: the table does not have one of the columns.
        """
        import pyarrow as pa

        known = file.schema_arrow.names
        if missing := [name for name in columns if name not in known]:
            raise DatasetError(f"the table has no column {missing}; it has {sorted(known)[:40]}.")
        self._batches = file.iter_batches(batch_size=_BATCH, columns=list(columns))
        self._schema = pa.schema([file.schema_arrow.field(name) for name in columns]).remove_metadata()
        self._waiting = self._schema.empty_table()

    def take(self, count: int) -> Any:
        """The next `count` rows, as an Arrow table.

        Raises:
            DatasetError: there are fewer.
        """
        import pyarrow as pa

        parts, rows = [self._waiting], self._waiting.num_rows
        while rows < count:
            batch = next(self._batches, None)
            if batch is None:
                raise DatasetError(f"the table ends {count - rows} rows early.")
            parts.append(pa.table({name: batch.column(name) for name in self._schema.names}))
            rows += batch.num_rows
        whole = pa.concat_tables([part for part in parts if part.num_rows] or [self._waiting])
        self._waiting = whole.slice(count)
        return whole.slice(0, count)


def numbers(column: Any, name: str, width: int) -> NDArray[Any]:
    """An Arrow column of numbers, or of lists of them, as (N, width).

    Raises:
        DatasetError: gaps, other lengths, or no numbers.
    """
    import pyarrow as pa

    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    count = len(values)
    for _ in range(_DEEPEST):
        if values.null_count:
            raise DatasetError(f"column {name!r} has rows without a value.")
        if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or _is_fixed(values.type)):
            break
        values = values.flatten()
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)):
        raise DatasetError(f"column {name!r} holds {values.type}; expected numbers.")
    if len(values) != count * width or not _is_even(column, width):
        raise DatasetError(f"column {name!r} holds {len(values)} numbers in {count} rows; expected {width} in each.")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(count, width)


def _is_fixed(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_fixed_size_list(kind))


def _is_even(column: Any, width: int) -> bool:
    """Whether each row's list has the same length, so that the flat numbers fall where they belong."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)) or not len(column):
        return True
    lengths = pc.list_value_length(column)
    return bool(pc.min(lengths).as_py() == pc.max(lengths).as_py())
