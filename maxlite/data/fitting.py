"""Whole documents fitted into rows: best fit, the longest first (arXiv 2404.10830)."""

from bisect import bisect_left, insort

import numpy as np


def fitted(lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Puts each document into the fullest row that has room for it, or begins another.

    These are at most two ninths more rows than there must be (Johnson, "Near-Optimal Bin Packing
    Algorithms", 1973), and with many short documents hardly any more.

    Args:
      lengths: of documents, int64 [N], each from 1 to `room`.
      room: of a row.

    Returns:
      The documents row after row, int64 [N], and how many of them are in each row, int64 [R].
    """
    rows = np.empty(len(lengths), np.int64)
    by_room: list[list[int]] = [[] for _ in range(room + 1)]  # rows, by the room that is left
    rooms: list[int] = []  # of which there are rows, ascending
    count = 0
    for i in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[i])
        at = bisect_left(rooms, size)
        if at < len(rooms):
            left = rooms[at]
            row = by_room[left].pop()
            if not by_room[left]:
                del rooms[at]
        else:
            left, row, count = room, count, count + 1
        rows[i] = row
        if left := left - size:
            if not by_room[left]:
                insort(rooms, left)
            by_room[left].append(row)
    return np.argsort(rows, kind="stable"), np.bincount(rows, minlength=count)
