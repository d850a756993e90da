"""One forward pass of a loaded model, under a plan for its experts.

`LoadedModel` learns by trying what the model can do: whether several requests fit one pass, whether a
prompt can be continued from a cache, how much a token costs there. It knows neither requests nor threads.

Shapes: B rows, S tokens fed per row, L cache length, V vocabulary, T = B * S.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.experts import check_routing, routed
from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import MoELayer, find_moe_layers
from llama_index.packs.mixture_of_agents.sparse_moe.plans import ForwardPlan, plan_sequences
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving import row_caches

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

# Whoever copies a model must not meet it in the middle of a pass, with our hooks on it.
_locks: WeakKeyDictionary[PreTrainedModel, threading.Lock] = WeakKeyDictionary()
_locks_lock = threading.Lock()

# A continued prompt must agree with one read in a single pass; rounding stays far below this share.
_TOLERANCE = 1e-2
_PROBE = 6


def lock_of(model: PreTrainedModel) -> threading.Lock:
    """Return the lock that is held during every pass of a model, whichever engine runs it."""
    with _locks_lock:
        return _locks.setdefault(model, threading.Lock())


class LoadedModel:
    """A causal language model with what the engine needs to know of it.

    Args:
        model: In eval mode; it is used as it is.

    Attributes:
        layers: Its mixture-of-experts layers; empty where it does not take transformers' experts interface.
        can_batch: Whether rows of several requests can share a pass.
        can_continue: Whether a prompt can be read in pieces, and from a shared prefix.
        keeps_every_position: Whether a prefix can be cut out of a cache anywhere.
        token_bytes: What a token adds to a cache, in bytes.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._lock = lock_of(model)
        self.layers: tuple[MoELayer, ...] = ()
        self.without_layers: ConfigurationError | None = None
        try:
            self.layers = find_moe_layers(model)
        except ConfigurationError as problem:
            self.without_layers = problem
        taken = inspect.signature(model.forward).parameters
        # The whole prompt's logits would be S x V floats, of which only the last row is wanted.
        self._options: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
        self._takes_positions = "position_ids" in taken
        # transformers renamed it in 5.24. A model swallows what it does not know: it must be its own name.
        self._cache_name = "cache" if "cache" in taken else "past_key_values"
        self._checked: set[RoutingSettings] = set()
        cache = row_caches.new_cache(model)
        self.can_batch = row_caches.can_batch(cache)
        self.keeps_every_position = row_caches.keeps_every_position(cache)
        self.can_continue, self.token_bytes = self._probe(cache)

    def check(self, settings: RoutingSettings) -> None:
        """Refuse routing that this model cannot do.

        Raises:
            ConfigurationError: Names the option and the reason.
        """
        if settings in self._checked:
            return
        if self.layers:
            check_routing(self.layers, settings)
        elif settings.limited or settings.top_k is not None:
            # A new one each time: an error that is raised again collects the frames of all its requests.
            reason = self.without_layers or "the model has no mixture-of-experts layers"
            raise ConfigurationError(str(reason))
        self._checked.add(settings)

    def run(
        self,
        ids_BS: Sequence[Sequence[int]],
        positions_BS: Sequence[Sequence[int]],
        cache: Cache,
        mask_BL: Tensor | None,
        plan: ForwardPlan | None,
    ) -> Tensor:
        """Feed tokens.

        Args:
            ids_BS: Token ids, no padding among them.
            positions_BS: Their positions in their own sequences.
            cache: What was fed before; extended in place.
            mask_BL: Which positions of cache and input are no padding; None if all are real.
            plan: How the experts treat these tokens; None leaves the model as it is.

        Returns:
            Logits of each row's last token (B, V).
        """
        device = self.model.device
        options = dict(self._options)
        if self._takes_positions:
            options["position_ids"] = torch.tensor(positions_BS, dtype=torch.long, device=device)
        if mask_BL is not None:
            options["attention_mask"] = mask_BL
        options[self._cache_name] = cache
        ids = torch.tensor(ids_BS, dtype=torch.long, device=device)
        # Not inference_mode: tables that a model keeps for itself would stay unusable for autograd.
        with self.exclusively(plan):
            output = self.model(input_ids=ids, use_cache=True, **options)
        logits_BV: Tensor = output.logits[:, -1]
        return logits_BV

    def _probe(self, cache: Cache) -> tuple[bool, int]:
        """Read a few tokens at once and in two pieces; compare, and weigh the cache."""
        ids = [[n % self.vocabulary for n in range(1, _PROBE + 1)]]
        positions = [list(range(_PROBE))]
        whole_V = self._probed(ids[0], positions[0], cache)
        token_bytes = row_caches.token_bytes(cache)
        if self.keeps_every_position:
            return True, token_bytes
        if not self.can_batch:
            return False, token_bytes
        # Some recurrent layers begin anew at every pass of several tokens.
        again = row_caches.new_cache(self.model)
        self._probed(ids[0][:3], positions[0][:3], again)
        pieces_V = self._probed(ids[0][3:], positions[0][3:], again)
        largest = whole_V.abs().max().clamp(min=1.0)
        return bool((whole_V - pieces_V).abs().max() <= _TOLERANCE * largest), token_bytes

    def _probed(self, ids: Sequence[int], positions: Sequence[int], cache: Cache) -> Tensor:
        plan = plan_sequences([positions], [_PROBE], RoutingSettings(), self.model.device)
        return self.run([ids], [positions], cache, None, plan if self.layers else None)[0].float()

    @property
    def vocabulary(self) -> int:
        """Number of token ids the model knows."""
        embedding: Any = self.model.get_input_embeddings()
        return int(embedding.weight.shape[0])

    def release(self) -> None:
        """Let go of the model: whoever keeps an error would keep it through the error's frames."""
        del self.model
        self.layers = ()

    @contextmanager
    def exclusively(self, plan: ForwardPlan | None) -> Iterator[None]:
        """Hold off other passes of this model, and route this thread's by a plan, until the block ends."""
        ours = routed(self.layers, plan) if plan is not None else nullcontext()
        with self._lock, torch.no_grad(), ours:
            yield


def first_nan_layer(
    loaded: LoadedModel, token_ids: Sequence[int], plan: ForwardPlan | None = None
) -> str | None:
    """Find the first layer that turns real numbers into NaN.

    Args:
        loaded: The model that returned NaN.
        token_ids: What it was reading.
        plan: How its experts treated these tokens; None leaves the model as it is.

    Returns:
        The layer's module path and class, or None if this reading gives none.
    """
    found: list[str] = []
    ids = torch.tensor([list(token_ids)], dtype=torch.long, device=loaded.model.device)
    with loaded.exclusively(plan), ExitStack() as leaving:
        for name, module in loaded.model.named_modules():
            if name:
                look = _nan_hook(f"{name} ({type(module).__name__})", found)
                leaving.callback(module.register_forward_hook(look).remove)
        loaded.model(input_ids=ids, use_cache=False)
    return found[0] if found else None


def _nan_hook(name: str, found: list[str]) -> Any:
    def look(module: Any, inputs: Any, output: Any) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        floats = [one for one in tensors if isinstance(one, Tensor) and one.is_floating_point()]
        if not found and any(bool(torch.isnan(one).any()) for one in floats):
            found.append(name)

    return look


def nan_error(
    loaded: LoadedModel, token_ids: Sequence[int], plan: ForwardPlan | None = None
) -> SparseMoEError:
    """Say which layer returned NaN, and what may help; arguments as for `first_nan_layer`."""
    where = first_nan_layer(loaded, token_ids, plan)
    place = f"first in {where}" if where else "but not when the tokens are read again in one pass"
    return SparseMoEError(
        f"the model returned NaN logits, {place}; its weights are damaged or overflow in "
        f"{loaded.model.dtype}. Try dtype='float32', or download the model again"
    )
