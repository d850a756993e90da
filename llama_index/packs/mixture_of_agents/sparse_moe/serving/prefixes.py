"""Prompts' beginnings that were computed once, kept for whoever begins the same way.

A tree of blocks of token ids: each node holds what its block leaves in a cache, and hangs under the block
before it. Memory is bounded; when it is full, the block that was used longest ago goes, ends of branches
first. It knows neither models nor requests.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from llama_index.packs.mixture_of_agents.sparse_moe.serving.row_caches import CachePiece
from llama_index.packs.mixture_of_agents.sparse_moe.stats import RoutingStats

# A block's place: the number of the block before it (or the family's root), and its own tokens.
_Place = tuple[Hashable, tuple[int, ...]]


@dataclass(frozen=True)
class Block:
    """What a stretch of a prompt leaves behind.

    Args:
        piece: In a cache.
        routing: In the counts of how tokens went to experts; None where nobody counted.
    """

    piece: CachePiece
    routing: RoutingStats | None = None


@dataclass(frozen=True)
class PrefixMatch:
    """The longest known beginning of a prompt.

    Args:
        tokens: Its length.
        blocks: Its blocks, in order; empty if nothing is known.
    """

    tokens: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class _Node:
    number: int
    block: Block


class PrefixStore:
    """Blocks of prompts, found by their tokens.

    Args:
        max_bytes: Most memory for the blocks, in bytes; 0 keeps nothing.
        needs_states: Whether a beginning is of use only where a piece has states (recurrent layers).
    """

    def __init__(self, max_bytes: int, *, needs_states: bool = False) -> None:
        self._max_bytes = max_bytes
        self._needs_states = needs_states
        self._nodes: OrderedDict[_Place, _Node] = OrderedDict()
        self._numbers = count()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def keeps(self) -> bool:
        """Whether anything is ever kept."""
        return self._max_bytes > 0

    def find(self, family: Hashable, token_ids: Sequence[int], block: int, limit: int) -> PrefixMatch:
        """Find the longest beginning that is known.

        Args:
            family: Only blocks stored under the same family are comparable.
            token_ids: The prompt.
            block: Tokens per block.
            limit: Longest beginning that is of use, in tokens.

        Returns:
            Whole blocks only.
        """
        way = list(self._way(family, token_ids, block, limit))
        self._refresh([place for place, _ in way])
        while self._needs_states and way and way[-1][1].block.piece.states is None:
            way.pop()
        return PrefixMatch(len(way) * block, tuple(node.block for _, node in way))

    def add(
        self, family: Hashable, token_ids: Sequence[int], block: int, start: int, blocks: Sequence[Block]
    ) -> None:
        """Store consecutive blocks, unless what stands before them is not there (any more).

        Args:
            family: As in `find`.
            token_ids: The prompt.
            block: Tokens per block.
            start: Position of the first of them, a multiple of `block`.
            blocks: What they left.
        """
        way = list(self._way(family, token_ids, block, start))
        if len(way) * block < start:
            return
        places = [place for place, _ in way]
        parent: Hashable = way[-1][1].number if way else (family, block)
        for offset, left in enumerate(blocks):
            begin = start + offset * block
            place: _Place = (parent, tuple(token_ids[begin : begin + block]))
            parent = self._put(place, left)
            places.append(place)
        self._refresh(places)
        self._shrink()

    def _way(
        self, family: Hashable, token_ids: Sequence[int], block: int, limit: int
    ) -> Iterator[tuple[_Place, _Node]]:
        parent: Hashable = (family, block)
        for begin in range(0, limit - block + 1, block):
            place: _Place = (parent, tuple(token_ids[begin : begin + block]))
            node = self._nodes.get(place)
            if node is None:
                return
            yield place, node
            parent = node.number

    def _put(self, place: _Place, block: Block) -> int:
        known = self._nodes.get(place)
        if known is not None and (known.block.piece.states is not None or block.piece.states is None):
            return known.number
        number = known.number if known else next(self._numbers)
        self.bytes += block.piece.size - (known.block.piece.size if known else 0)
        self._nodes[place] = _Node(number, block)
        return number

    def _refresh(self, places: Sequence[_Place]) -> None:
        # Ends first: so a block is never older than what hangs under it, and is never dropped before it.
        for place in reversed(places):
            self._nodes.move_to_end(place)

    def _shrink(self) -> None:
        while self.bytes > self._max_bytes and self._nodes:
            _, oldest = self._nodes.popitem(last=False)
            self.bytes -= oldest.block.piece.size

    def clear(self) -> None:
        """Forget everything."""
        self._nodes.clear()
        self.bytes = 0


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of what two sequences of token ids begin with alike."""
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))
