"""Whether a Ray head answers and takes our token: Ray itself tries for minutes, or aborts the process."""

from __future__ import annotations

import logging
import os
import socket

from ray._private.authentication.authentication_token_setup import (
    ensure_token_if_auth_enabled,
    maybe_enable_token_auth_if_token_available,
)
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # its stub lists a part
from ray.exceptions import AuthenticationError, RpcError

from search_spaces.errors import InputError

logger = logging.getLogger(__name__)

AUTO = "auto"
_LOOPBACK = ("127.", "localhost:", "[::1]:")
_REACH_S = 10.0
_TOKEN = "RAY_AUTH_TOKEN (or a file's name in RAY_AUTH_TOKEN_PATH)"  # noqa: S105 - names


def check_entrance(address: str) -> None:
    """Ask the head at an address (`auto`: the one that Ray finds) to let us in; without a head it takes minutes.

    Raises InputError where our token is missing or wrong, OSError or ValueError where there is no head.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)  # as ray.init will, which comes later
    if address != AUTO:
        _reach(address)
    _need_token(address)
    found = canonicalize_bootstrap_address(address)
    if found is None:
        raise ConnectionError("none is running here, and RAY_ADDRESS names none")
    if address == AUTO:
        _reach(found)
    try:
        GcsClient(address=found)
    except AuthenticationError as error:
        raise InputError(f"the Ray cluster at {found!r} {_refusal()}") from error
    except RpcError as error:
        raise ConnectionError(str(error).strip()) from error
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" and not found.startswith(_LOOPBACK):
        logger.warning(
            "the Ray cluster at %s asks for no token: whoever reaches it runs programs there; "
            "start it with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN on every machine",
            found,
        )


def _reach(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()


def _need_token(address: str) -> None:
    """As ray.init does: with RAY_AUTH_MODE=token and without a token Ray's client aborts the process (ray 2.60)."""
    if address == AUTO:
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        ensure_token_if_auth_enabled(create_token_if_missing=False)
    except AuthenticationError as error:
        raise InputError(
            f"RAY_AUTH_MODE is 'token', and there is no token for the Ray cluster at {address!r}: set the cluster's "
            f"{_TOKEN} in the environment, or RAY_AUTH_MODE=disabled if the cluster asks for none"
        ) from error


def _refusal() -> str:
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return f"refuses our token: set the {_TOKEN} that its head was started with in the environment"
    return f"asks for a token: set RAY_AUTH_MODE=token and the cluster's {_TOKEN} in the environment"
