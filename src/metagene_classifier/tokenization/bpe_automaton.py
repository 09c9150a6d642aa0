"""Byte-pair encoding of DNA as a finite automaton, which reads a base a step and always knows the last token so far.

A text's encoding is the one sequence of tokens in which every two neighbours are a *valid pair*: encoded alone, their
texts give just these two tokens. (If the first merge over a border between tokens could happen in the whole text, it
would happen in the two neighbours' text as well, since nothing further away has any part in it.) So the encoding of a
prefix without its last token is the encoding of a shorter prefix, and exactly one token ends each prefix such that it
follows the last token of the rest validly. Which one, depends on what tokens may still be under way: that is the state.
Reading forward gives the last token of every prefix; reading back from the end, token by token, gives the encoding.

The idea of valid pairs is that of the ``bpe`` crate of github.com/github/rust-gems.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metagene_classifier.reads.base_codes import LETTERS
from metagene_classifier.tokenization.bpe_rules import BpeRules, NotPlainError

__all__ = ["MAX_STATES", "MAX_TOKENS", "BpeAutomaton", "build_automaton", "valid_pairs"]

MAX_TOKENS = 8192
MAX_STATES = 2**16  # a state is stored for every base, in two bytes

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class BpeAutomaton:
    """States and what they say; state 0 is the start.

    Attributes:
        next_state: ``(states, 5)``, after each of A, C, G, T and N.
        last_id: ``(states,)``, id of the last token of what was read; 0 for the start.
        last_length: ``(states,)``, its bases; 0 for the start and nothing else.
    """

    next_state: Ints
    last_id: Ints
    last_length: Ints


def build_automaton(rules: BpeRules) -> BpeAutomaton:
    """The automaton of a byte-pair encoding.

    Raises:
        NotPlainError: it would be too large.
    """
    if len(rules.texts) > MAX_TOKENS:
        raise NotPlainError(f"{len(rules.texts):,} tokens of DNA, and a table is made of {MAX_TOKENS:,} at most")
    threads = _threads_of(rules, valid_pairs(rules))
    next_state, last_token = _explore(threads, max(map(len, rules.texts)))
    lengths = np.array([0, *map(len, rules.texts)], np.int32)
    ids = np.array([0, *rules.ids], np.int32)
    return BpeAutomaton(next_state, ids[last_token + 1], lengths[last_token + 1])


def valid_pairs(rules: BpeRules) -> npt.NDArray[np.bool_]:
    """Which token may stand behind which: ``(tokens, tokens)``, the one before in rows.

    A pair is not valid if some merge joins a token that ends the first and one that begins the second while both are
    there. That makes a rectangle of pairs for each merge.
    """
    count = len(rules.texts)
    last = max(rules.merges.values(), default=0) + 1  # later than any merge
    endings: dict[int, list[tuple[int, int]]] = {}
    beginnings: dict[int, list[tuple[int, int]]] = {}
    for token in range(count):
        for part, rank in rules.right_spine(token):
            endings.setdefault(part, []).append((token, last if rank < 0 else rank))
        for part, rank in rules.left_spine(token):
            beginnings.setdefault(part, []).append((token, last if rank < 0 else rank))
    valid = np.ones((count, count), bool)
    for (left, right), rank in rules.merges.items():
        before = [token for token, until in endings.get(left, ()) if rank < until]
        # Of merges of one rank the leftmost comes first, and this one is left of those in the second token.
        after = [token for token, until in beginnings.get(right, ()) if rank <= until]
        valid[np.ix_(before, after)] = False
    return valid


@dataclass(frozen=True)
class _Threads:
    """Tokens that may be under way at one place: each thread is a beginning of tokens, behind some last token.

    Threads with the same future are one thread.

    Attributes:
        further: ``(threads + 1, 5)``, the thread after one more letter; the last row is that of no thread, which is
            also written -1.
        ended: ``(threads + 1, 5)``, the token that this letter completes; -1 for none.
        opened: ``(tokens + 1,)``, the thread that opens behind each token; the last is that of the text's start.
    """

    further: Ints
    ended: Ints
    opened: Ints


def _threads_of(rules: BpeRules, valid: npt.NDArray[np.bool_]) -> _Threads:
    """All threads, by the trie of the tokens' texts, from its leaves: what may follow tells threads apart."""
    children, token_at = _trie(rules.texts)
    _, first, kind_of = np.unique(np.packbits(valid, axis=1), axis=0, return_index=True, return_inverse=True)
    kinds = np.vstack([valid[first], np.ones(len(rules.texts), bool)])  # at the start any token may come
    none = np.full(len(kinds), -1, np.int32)
    thread_at: list[Ints] = [none] * len(children)
    further, ended, made = [], [], 0
    for node in reversed(range(len(children))):  # a node has a larger number than its parent
        thread = np.empty((len(kinds), 2 * len(LETTERS)), np.int32)
        for letter, child in enumerate(children[node]):
            token = token_at[child] if child else -1
            thread[:, letter] = thread_at[child] if child else -1
            thread[:, len(LETTERS) + letter] = np.where(kinds[:, token], token, -1) if token >= 0 else -1
        first, number = _distinct(thread)
        dead = (thread[first] == -1).all(1)
        alive = int(np.count_nonzero(~dead))
        numbers = np.full(len(first), -1, np.int32)
        numbers[~dead] = made + np.arange(alive)
        made += alive
        further.append(thread[first[~dead], : len(LETTERS)])
        ended.append(thread[first[~dead], len(LETTERS) :])
        thread_at[node] = numbers[number]
    no_thread = [np.full((1, len(LETTERS)), -1, np.int32)]
    opened = thread_at[0][np.append(kind_of.ravel(), len(kinds) - 1)]
    return _Threads(np.vstack(further + no_thread), np.vstack(ended + no_thread), opened)


def _trie(texts: tuple[str, ...]) -> tuple[list[list[int]], list[int]]:
    """Children of each node by letter (0: none; node 0 is the root) and the token that ends there (-1: none)."""
    children, token_at = [[0] * len(LETTERS)], [-1]
    for token, text in enumerate(texts):
        node = 0
        for letter in map(LETTERS.index, text):
            if not children[node][letter]:
                children[node][letter] = len(children)
                children.append([0] * len(LETTERS))
                token_at.append(-1)
            node = children[node][letter]
        token_at[node] = token
    return children, token_at


def _distinct(rows: Ints) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The place of the first of all equal rows, for every sort of row, and the sort of every row."""
    number = np.zeros(len(rows), np.int64)
    first = np.zeros(1, np.int64)
    for column in rows.T:
        if (column == column[0]).all():
            continue
        span = int(column.max()) + 2
        _, first, number = np.unique(number * span + column + 1, return_index=True, return_inverse=True)
    return first, number


def _explore(threads: _Threads, longest: int) -> tuple[Ints, Ints]:
    """All states that can be reached, and the last token of each; -1 for that of the start.

    A state is the threads under way, by how many letters ago they opened, and the last token.
    """
    start = np.full((1, longest + 1), -1, np.int32)
    start[0, 0] = threads.opened[-1]
    number_of = {start.tobytes(): 0}
    last_token = [np.array([-1], np.int32)]
    next_state = []
    frontier = start
    while len(frontier):
        # The last column holds the last token; a thread as long as the longest token has no letter left to come.
        under_way = frontier[:, :longest]
        ended = threads.ended[under_way].max(1)  # exactly one of them completes a token: (states, 5)
        if (ended < 0).any():  # without a token at every step, reading back would never end
            raise NotPlainError("its merges fit no table")
        after = np.empty((len(frontier), len(LETTERS), longest + 1), np.int32)
        after[:, :, 1:longest] = threads.further[under_way[:, : longest - 1]].transpose(0, 2, 1)
        after[:, :, 0] = threads.opened[ended]
        after[:, :, longest] = ended
        states = after.reshape(-1, longest + 1)
        new = []
        numbers = np.empty(len(states), np.int32)
        for place, state in enumerate(states):
            known = len(number_of)
            numbers[place] = number_of.setdefault(state.tobytes(), known)
            if len(number_of) > known:
                new.append(place)
        if len(number_of) > MAX_STATES:
            raise NotPlainError(f"more than {MAX_STATES:,} states")
        next_state.append(numbers.reshape(-1, len(LETTERS)))
        frontier = states[new]
        last_token.append(frontier[:, longest])
    return np.vstack(next_state), np.concatenate(last_token)
