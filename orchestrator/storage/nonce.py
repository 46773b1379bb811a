"""Shows that somebody reads and writes the same storage: a random question, and an answer for every node."""

from __future__ import annotations

import hashlib
import uuid

from orchestrator.storage.store import Store, open_store
from search_spaces.errors import InputError, StorageError

_NONCES = "nonces/"


class Nonce:
    """A question in storage, which each node answers where the asker finds it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._secret = uuid.uuid4().hex.encode()
        self.name = f"{_NONCES}{uuid.uuid4().hex}"

    def ask(self) -> None:
        """Write the question. Raises StorageError."""
        self._store.put(f"{self.name}/question", self._secret)

    def is_answered_by(self, node: str) -> bool:
        """Whether the node has read the question and written to the same storage. Raises StorageError."""
        try:
            return self._store.get(f"{self.name}/{node}") == _answer(self._secret, node)
        except FileNotFoundError:
            return False

    def forget(self) -> None:
        """Remove the question and its answers. Raises StorageError."""
        self._store.remove(self._store.names(f"{self.name}/"))


def answer(address: str, nonce: str, node: str) -> None:
    """Read a nonce's question and answer it as this node; run on that node.

    Raises StorageError, InputError, or FileNotFoundError where the question is not there.
    """
    store = open_store(address)
    store.put(f"{nonce}/{node}", _answer(store.get(f"{nonce}/question"), node))


def check_here(address: str) -> Store:
    """The storage, which this process has written and read. Raises InputError where it cannot."""
    store = open_store(address)
    nonce = Nonce(store)
    try:
        nonce.ask()
        answer(address, nonce.name, "driver")
        answered = nonce.is_answered_by("driver")
        nonce.forget()
    except (StorageError, FileNotFoundError) as error:
        raise InputError(
            f"{error}; `storage` must be a folder or URL that this machine and every node can read and write (secrets "
            "by the environment)"
        ) from error
    if not answered:
        raise InputError(f"storage {address} does not give back what was written to it; choose another one")
    return store


def _answer(secret: bytes, node: str) -> bytes:
    return hashlib.sha256(secret + node.encode()).hexdigest().encode()
