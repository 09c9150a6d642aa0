"""Encoding with an automaton, many reads abreast: one NumPy call takes a base of each of thousands of reads.

Long reads are cut into segments that overlap. What a segment finds is used only where it has met what its neighbour
found in the overlap (byte-pair encoding seldom looks further than some tens of bases); a read in which two segments
have not met, as in a long repeat, is walked through base by base.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.tokenization.bpe_automaton import BpeAutomaton

__all__ = ["BpeTable"]

States = npt.NDArray[np.uint16]
Codes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

SEGMENT_BP = 1024
OVERLAP_BP = 64  # on each side of a segment
BASES_AT_ONCE = 2**22  # of short reads; a longer one is encoded alone
CELLS = 2**21  # bases of a block of segments, which stay in the processor's cache
FEWEST_ABREAST = 48  # fewer segments are walked through faster one by one
MOST_PADDING = 1.25  # cells of a block to bases in it
MANY_FOR_ONE = 1024  # segments of a block; fewer than one in so many with far more tokens than the rest leave it
_WALK_BASES = 2**16
_LETTERS = 8  # columns of a state's row


class BpeTable:
    """An automaton laid out for encoding; safe to use from several threads.

    Args:
        automaton: of the tokenizer.
    """

    def __init__(self, automaton: BpeAutomaton) -> None:
        states = len(automaton.next_state)
        rows = np.zeros((states, _LETTERS), np.int64)
        rows[:, : automaton.next_state.shape[1]] = automaton.next_state
        self._next = (rows * _LETTERS).ravel()
        self._ids = automaton.last_id.astype(np.uint16 if automaton.last_id.max() < 2**16 else np.uint32)
        self._lengths = automaton.last_length.astype(np.int64)
        self._walked = self._next.tolist()

    def encode(self, codes: Codes, lengths: Int64s) -> tuple[npt.NDArray[Any], Int64s]:
        """Encode reads.

        Args:
            codes: ``(bases,)``, 0 to 4 for A, C, G, T and N; reads follow each other.
            lengths: ``(reads,)``, bases of each.

        Returns:
            The ids of all reads, ``(tokens,)``, and how many each has, ``(reads,)``.
        """
        ends = np.cumsum(lengths)
        ids = []
        counts = np.zeros(len(lengths), np.int64)
        for first, last in _portions(ends):
            begin = int(ends[first] - lengths[first])
            portion, counts[first:last] = self._encode_portion(codes[begin : int(ends[last - 1])], lengths[first:last])
            ids.append(portion)
        return np.concatenate(ids) if ids else np.zeros(0, self._ids.dtype), counts

    def _encode_portion(self, codes: Codes, lengths: Int64s) -> tuple[npt.NDArray[Any], Int64s]:
        segments = _Segments.of(lengths)
        if len(segments.begin) < FEWEST_ABREAST:
            none = np.zeros(0, np.uint16)
            states, counts = self._walk_instead(codes, lengths, none, np.zeros_like(lengths), np.arange(len(lengths)))
            return self._ids.take(states), counts
        states, of_segments, found = self._encode_segments(codes, segments)
        counts = np.zeros(len(lengths), np.int64)
        np.add.at(counts, segments.read, of_segments)
        apart = np.unique(segments.read[found.apart(segments)])
        if len(apart):
            states, counts = self._walk_instead(codes, lengths, states, counts, apart)
        return self._ids.take(states), counts

    def _encode_segments(self, codes: Codes, segments: _Segments) -> tuple[States, Int64s, _Borders]:
        """The states at the ends of all tokens, how many each segment has, and what was found at its borders."""
        count = len(segments.begin)
        counts = np.zeros(count, np.int64)
        found = _Borders.of(count)
        blocks, in_order = segments.blocks()
        parts = []
        for block in blocks:
            part, counts[block] = self._encode_block(codes, segments, block, found)
            parts.append(part)
        states = np.concatenate(parts) if parts else np.zeros(0, np.uint16)
        if not in_order:
            states = _in_order(states, np.concatenate(blocks), counts)
        return states, counts, found

    def _encode_block(self, codes: Codes, segments: _Segments, block: Int64s, found: _Borders) -> tuple[States, Int64s]:
        """The states at the ends of a block's tokens, segment by segment, and how many each segment has."""
        width = len(block)
        begin, rows = segments.begin[block], segments.end[block] - segments.begin[block]
        longest = int(rows.max())
        lane = np.arange(width)
        states = self._read_forward(codes, begin, longest)
        flat = states.ravel()
        skipped = segments.skipped[block] * width + lane
        kept_to = (rows - segments.extra[block]) * width + lane
        at = rows * width + lane
        if segments.extra[block].any():  # from the end of the overlap back to where the segment's own tokens end
            while True:
                state = flat.take(at, mode="clip")
                state *= at > kept_to
                if not state.any():
                    break
                at -= self._lengths.take(state) * width
        found.begin_state[block], found.end_state[block] = flat.take(skipped), flat.take(kept_to)
        found.enters[block] = begin + at // width
        # The start's state is 0, ends no token, and stands for "no token" in the columns of segments that are through.
        backward = np.empty_like(states)
        alone = (segments.skipped[block] == 0) & (segments.extra[block] == 0)  # whole reads
        row, step = 0, np.empty(width, np.int64)
        live, state = np.empty(width, bool), np.empty(width, np.uint16)
        while True:
            np.greater(at, skipped, out=live)
            left = np.count_nonzero(live)
            if left <= width // MANY_FOR_ONE and (left == 0 or alone[live].all()):
                break
            flat.take(at, out=state, mode="clip")
            np.multiply(state, live, out=backward[row])
            self._lengths.take(backward[row], out=step, mode="clip")
            step *= width
            at -= step
            row += 1
        found.leaves[block] = begin + at // width
        found.given_up[block] = live
        backward[:row, live] = 0
        columns = np.ascontiguousarray(backward[:row][::-1].T)
        return columns[columns > 0], np.count_nonzero(columns, axis=1)

    def _read_forward(self, codes: Codes, begin: Int64s, longest: int) -> States:
        """States ``(bases + 1, segments)`` before and after each base; meaningless behind a segment's end."""
        states = np.empty((longest + 1, len(begin)), np.uint16)
        states[0] = 0
        place = begin.copy()
        code = np.empty(len(begin), np.uint8)
        cell = np.zeros(len(begin), np.int64)
        for row in range(1, longest + 1):
            codes.take(place, out=code, mode="clip")
            cell += code
            cell = self._next.take(cell, mode="clip")
            np.right_shift(cell, 3, out=states[row], casting="unsafe")
            place += 1
        return states

    def _walk_instead(
        self, codes: Codes, lengths: Int64s, states: States, counts: Int64s, reads: Int64s
    ) -> tuple[States, Int64s]:
        """The states with those of ``reads`` found by walking, and all reads' counts."""
        token_ends, base_ends = np.cumsum(counts), np.cumsum(lengths)
        parts, kept = [], 0
        counts = counts.copy()
        for read in reads:
            walked = self._walk(codes[base_ends[read] - lengths[read] : base_ends[read]])
            parts += [states[kept : token_ends[read] - counts[read]], walked]
            kept, counts[read] = token_ends[read], len(walked)
        return np.concatenate([*parts, states[kept:]]), counts

    def _walk(self, codes: Codes) -> States:
        """The states at the ends of one read's tokens, base by base."""
        following = self._walked
        states = np.zeros(len(codes) + 1, np.uint16)
        cell = 0
        for first in range(0, len(codes), _WALK_BASES):
            cells = []
            for code in codes[first : first + _WALK_BASES].tobytes():
                cell = following[cell + code]
                cells.append(cell)
            states[first + 1 : first + 1 + len(cells)] = np.array(cells, np.int64) >> 3
        lengths = self._lengths.astype(np.uint16).take(states).data
        ends = array("q")
        end = len(codes)
        while end:
            ends.append(end)
            end -= lengths[end]
        return states.take(np.frombuffer(ends, np.int64)[::-1]) if ends else np.zeros(0, np.uint16)


@dataclass(frozen=True)
class _Segments:
    """Parts of reads, ``(segments,)`` each, in the order of the bases.

    Attributes:
        read: that it is of.
        begin: its first base.
        end: one more than its last.
        skipped: bases at its begin that belong to the segment before.
        extra: bases at its end that belong to the segment behind.
    """

    read: Int64s
    begin: Int64s
    end: Int64s
    skipped: Int64s
    extra: Int64s

    @classmethod
    def of(cls, lengths: Int64s) -> _Segments:
        ends = np.cumsum(lengths)
        starts = ends - lengths
        read = np.arange(len(lengths))
        if lengths.max(initial=0) <= SEGMENT_BP:
            none = np.zeros(len(lengths), np.int64)
            return cls(read, starts, ends, none, none)
        parts = np.maximum(-(-lengths // SEGMENT_BP), 1)
        read = np.repeat(read, parts)
        start, length, of = starts[read], lengths[read], parts[read]
        number = np.arange(len(read)) - np.repeat(np.cumsum(parts) - parts, parts)
        own, own_end = start + number * length // of, start + (number + 1) * length // of
        begin = np.maximum(own - OVERLAP_BP, start)
        end = np.minimum(own_end + OVERLAP_BP, start + length)
        return cls(read, begin, end, own - begin, end - own_end)

    def blocks(self) -> tuple[list[Int64s], bool]:
        """Segments to encode together, of like lengths, and whether the blocks keep the segments' order."""
        rows = self.end - self.begin + 1
        in_order = len(rows) * int(rows.max(initial=0)) <= MOST_PADDING * int(rows.sum())
        order = np.arange(len(rows)) if in_order else np.argsort(-rows, kind="stable")
        blocks = []
        first = 0
        while first < len(rows):
            if in_order:
                longest = int(rows.max())
                last = first + max(CELLS // longest, 1)
            else:
                longest = int(rows[order[first]])
                alike = np.searchsorted(-rows[order], -longest / MOST_PADDING, side="right")
                last = min(first + max(CELLS // longest, 1), int(alike))
            blocks.append(order[first:last])
            first = last
        return blocks, in_order


@dataclass(frozen=True)
class _Borders:
    """What segments found where they meet, ``(segments,)`` each.

    Attributes:
        begin_state: the state before a segment's own first base.
        end_state: that after its own last.
        enters: base behind the last token that ends in a segment, by what lies behind it.
        leaves: base before its first token.
        given_up: whether the segment is a whole read, and its tokens were not looked for to the end.
    """

    begin_state: States
    end_state: States
    enters: Int64s
    leaves: Int64s
    given_up: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, segments: int) -> _Borders:
        states, bases = np.zeros((2, segments), np.uint16), np.zeros((2, segments), np.int64)
        return cls(states[0], states[1], bases[0], bases[1], np.zeros(segments, bool))

    def apart(self, segments: _Segments) -> Int64s:
        """The segments that found something else than the segment before in the same read, or were given up."""
        same = (self.begin_state[1:] == self.end_state[:-1]) & (self.leaves[1:] == self.enters[:-1])
        apart = 1 + np.flatnonzero((segments.read[1:] == segments.read[:-1]) & ~same)
        return np.concatenate([apart, np.flatnonzero(self.given_up)])


def _portions(ends: Int64s) -> Iterator[tuple[int, int]]:
    """First read and one more than the last of portions of about ``BASES_AT_ONCE``; ``ends`` are those of all reads."""
    first, before = 0, 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, before + BASES_AT_ONCE, side="right")))
        yield first, last
        first, before = last, int(ends[last - 1])


def _in_order(states: States, segments: Int64s, counts: Int64s) -> States:
    """States that stand segment by segment as ``segments`` has them, in the order of the segments' numbers."""
    to = np.cumsum(counts) - counts
    counts = counts[segments]
    shift = to[segments] - (np.cumsum(counts) - counts)
    ordered = np.empty_like(states)
    ordered[np.repeat(shift, counts) + np.arange(len(states))] = states
    return ordered
