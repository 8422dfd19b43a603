"""Whether the hub can be asked at all: found out with one short question before the client would try for minutes.

The hub is the one that `HF_ENDPOINT` names, through the proxies and with the token that its own client uses;
`HF_HUB_OFFLINE=1` answers by itself.
"""

from __future__ import annotations

import threading
import time

PATIENCE = 4.0  # seconds that the hub has to answer at all
KEPT = 10.0  # seconds for which an answer holds: one load asks the hub many things

_lock = threading.Lock()
_found: dict[str, tuple[float, bool]] = {}  # endpoint -> when it was asked, whether it answered


def endpoint() -> str:
    """Address of the hub, without a slash at its end."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def answers() -> bool:
    """Whether the hub answers, whatever it says; within `PATIENCE` seconds or so."""
    with _lock:
        when, answered = _found.get(endpoint(), (-KEPT, False))
        if time.monotonic() - when >= KEPT:
            answered = _asked()
            _found[endpoint()] = (time.monotonic(), answered)
        return answered


def require() -> None:
    """Raise ConnectionError where the hub does not answer."""
    if not answers():
        raise ConnectionError(f"{endpoint()} does not answer")


def forget() -> None:
    """Ask anew next time."""
    with _lock:
        _found.clear()


def _asked() -> bool:
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    try:
        get_session().head(f"{endpoint()}/api/models", timeout=PATIENCE)
    except Exception:  # offline mode, no name, no route, no answer in time: whatever the HTTP library raises
        return False
    return True
