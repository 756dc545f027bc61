"""What a request may do besides tagging: what the operator switched on, and its key has the scope for."""

from collections.abc import Mapping

from fastapi import Request

from serving.gateway.access.keys import SCOPES, Scope
from serving.gateway.problems import GatewayError
from serving.settings import Settings

_SWITCHED_OFF: Mapping[Scope, str] = {
    "teach": "Teaching is switched off here: `labelwise serve --teach` switches it on.",
    "feedback": "Feedback is switched off here: `labelwise serve --feedback FILE.db` switches it on.",
}


def allowed(request: Request, settings: Settings) -> tuple[Scope, ...]:
    """The scopes that this request has. Without a key file, it has all that the operator switched on."""
    return tuple(scope for scope in SCOPES if _is_on(settings, scope) and scope in _of_key(request, settings))


def require(request: Request, settings: Settings, scope: Scope) -> None:
    """Raises GatewayError `forbidden`, which says what to do, if this request does not have the scope."""
    require_on(settings, scope)
    if scope not in _of_key(request, settings):
        raise GatewayError(
            "forbidden",
            f"This key may not do this: `labelwise keys add NAME --may {scope}` makes one that may, or add "
            f"may={scope} to its line in the key file.",
        )


def require_on(settings: Settings, scope: Scope) -> None:
    """Raises GatewayError `forbidden` if the operator did not switch this on."""
    if not _is_on(settings, scope):
        raise GatewayError("forbidden", _SWITCHED_OFF[scope])


def _is_on(settings: Settings, scope: Scope) -> bool:
    return settings.teach if scope == "teach" else settings.feedback is not None


def _of_key(request: Request, settings: Settings) -> tuple[Scope, ...]:
    """With a key file, a request whose key was not looked at has no scope."""
    found: tuple[Scope, ...] = request.scope["state"].get("key_may", () if settings.keys else SCOPES)
    return found
