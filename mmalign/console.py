"""A calm terminal: what libraries say that helps nobody who runs a verb is left out; errors still come through."""

from __future__ import annotations

import logging
from types import ModuleType


def hide_hints() -> None:
    """No hints from xformers, diffusers and transformers below errors. Call it before they are imported."""
    logging.getLogger("xformers").setLevel(logging.ERROR)
    for log in _logs():
        log.set_verbosity_error()


def hide_bars() -> None:
    """No progress bars while small models are loaded."""
    for log in _logs():
        log.disable_progress_bar()


def _logs() -> tuple[ModuleType, ModuleType]:
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    return diffusers_log, transformers_log
