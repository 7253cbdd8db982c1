"""The models of one worker: loaded when first asked for, then kept as long as memory allows."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import Counter
from pathlib import Path

import torch

from app.catalogue import Catalogue
from app.hub import NotHere, at_hand
from app.settings import Settings
from samplers.models import load
from samplers.models.base import Model
from samplers.models.parts import Loading

log = logging.getLogger(__name__)


class ModelUnavailable(Exception):
    """A model of the catalogue that this worker could not load; the message is for the client."""


class Shelf:
    """`loaded` holds the models by id, the least recently used first; `failed` why one cannot be loaded.

    Where the settings bound the memory, loading a model puts those away that nobody has borrowed.
    """

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self.catalogue = catalogue
        self.loaded: dict[str, Model] = {}
        self.failed: dict[str, str] = {}
        self.profile = settings.profile
        self._settings = settings
        self._borrowed: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    @property
    def offered(self) -> list[str]:
        """The models that this worker serves or has yet to try."""
        return [model for model in self.catalogue.models if model not in self.failed]

    def borrow(self, model: str) -> Model | None:
        """The model, which then stays until `give_back`; None where it has to be loaded first."""
        with self._lock:
            if model not in self.loaded:
                return None
            self.loaded[model] = self.loaded.pop(model)
            self._borrowed[model] += 1
            return self.loaded[model]

    def give_back(self, model: str) -> None:
        """What was borrowed once is needed once less."""
        with self._lock:
            self._borrowed[model] -= 1

    def load(self, model: str, on_part: Loading | None = None) -> float:
        """Load the model if it is not; how long that took in ms. Blocks. ModelUnavailable if it cannot be."""
        with self._loading:
            if model in self.failed:
                raise ModelUnavailable(self.failed[model])
            if model in self.loaded:
                return 0.0
            began = time.perf_counter()
            try:
                loaded = self._load(model, on_part)
            except NotHere as error:  # somebody may fetch it while we run
                raise ModelUnavailable(str(error)) from error
            except Exception as error:
                log.exception("model %r could not be loaded and is not offered", model)
                self.failed[model] = (
                    f"model {model!r} could not be loaded by this worker ({type(error).__name__}); "
                    "its log says why"
                )
                raise ModelUnavailable(self.failed[model]) from error
            with self._lock:
                self.loaded[model] = loaded
            load_ms = (time.perf_counter() - began) * 1e3
            log.info("loaded model %r in %.0f ms on %s", model, load_ms, loaded.device)
            return load_ms

    def _load(self, model: str, on_part: Loading | None) -> Model:
        if model not in self.catalogue.models:
            raise ValueError(f"there is no model {model!r} in the catalogue")
        card = at_hand(self.catalogue.models[model])
        self._make_room(sum(file.stat().st_size for file in Path(card.source).rglob("*.safetensors")))
        options = card.load_options(self._settings.dtype, self._settings.device, self._settings.profile)
        return load(card.source, on_part=on_part, **options)

    def _make_room(self, needed_bytes: int) -> None:
        """Put idle models away, the least recently used first, until so much more fits the budget."""
        budget = self._settings.model_memory_bytes
        if budget is None:
            return
        with self._lock:
            for name in list(self.loaded):
                if self._used_bytes() + needed_bytes <= budget:
                    break
                if not self._borrowed[name]:
                    log.info("model %r makes room", name)
                    del self.loaded[name]
            if (used := self._used_bytes()) and used + needed_bytes > budget:
                log.warning("models in use and the next one exceed the budget of %d bytes", budget)
        gc.collect()
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()

    def _used_bytes(self) -> int:
        return sum(model.weights_bytes for model in self.loaded.values())
