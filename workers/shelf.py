"""The models of one worker: loaded when first asked for, then kept."""

from __future__ import annotations

import logging
import threading
import time

from app.catalogue import Catalogue
from app.hub import NotHere, at_hand
from app.settings import Settings
from samplers.models import load
from samplers.models.base import Model

log = logging.getLogger(__name__)


class ModelUnavailable(Exception):
    """A model of the catalogue that this worker could not load; the message is for the client."""


class Shelf:
    """`loaded` holds the models by id; `failed` the message for each one that could not be loaded."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self.catalogue = catalogue
        self.loaded: dict[str, Model] = {}
        self.failed: dict[str, str] = {}
        self._device = settings.device
        self._dtype = settings.dtype
        self._lock = threading.Lock()

    @property
    def offered(self) -> list[str]:
        """The models that this worker serves or has yet to try."""
        return [model for model in self.catalogue.models if model not in self.failed]

    def get(self, model: str) -> tuple[Model, float]:
        """The model, and how long this call took to load it, in ms. Blocks. ModelUnavailable if it cannot."""
        with self._lock:
            if model in self.failed:
                raise ModelUnavailable(self.failed[model])
            if model in self.loaded:
                return self.loaded[model], 0.0
            began = time.perf_counter()
            try:
                self.loaded[model] = self._load(model)
            except NotHere as error:  # somebody may fetch it while we run
                raise ModelUnavailable(str(error)) from error
            except Exception as error:
                log.exception("model %r could not be loaded and is not offered", model)
                self.failed[model] = (
                    f"model {model!r} could not be loaded by this worker ({type(error).__name__}); "
                    "its log says why"
                )
                raise ModelUnavailable(self.failed[model]) from error
            load_ms = (time.perf_counter() - began) * 1e3
            log.info("loaded model %r in %.0f ms on %s", model, load_ms, self.loaded[model].device)
            return self.loaded[model], load_ms

    def _load(self, model: str) -> Model:
        if model not in self.catalogue.models:
            raise ValueError(f"there is no model {model!r} in the catalogue")
        card = at_hand(self.catalogue.models[model])
        return load(card.source, **card.load_options(self._dtype, self._device))
