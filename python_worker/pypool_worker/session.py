"""A session as a handler sees it: the values that were committed, and over them what this call writes."""
from __future__ import annotations

from typing import Any, Dict, Iterator, List, MutableMapping, Set, Tuple

from pypool_worker.codec import Codec
from pypool_worker.copies import Copy
from pypool_worker.misfit import MESSAGE_DEPTH_MAX, describe_misfit, quoted
from pypool_worker.request import reason_of

KEY_MAX = 255  # bytes of UTF-8

# Four arrays and maps stand around a value in a reply: packed with as many around it, it is as deep as can be sent.
WRAPPERS = 4
DEPTH_MAX = MESSAGE_DEPTH_MAX - WRAPPERS


class SessionMisfit(Exception):
    """A value that cannot be encoded; the text names its key."""


class Session(MutableMapping[str, Any]):
    """The values of the session in which this call runs, by text keys: `current().session`.

    What is written travels with the successful reply and is kept as a whole; of a call that fails nothing is. A value
    is decoded when it is first asked for, and stays the same object for the rest of the call: changing a list or a dict
    in place is writing it. What is assigned is encoded at the end of the call, as it is then.

    Reading raises KeyError for a key that is not there and ValueError for a value that Python cannot hold; writing
    raises TypeError or ValueError for a key that is not text of 1 to 255 bytes, and RuntimeError after the call.
    """

    __slots__ = ("_copy", "_codec", "_closed", "_seen", "_written", "_deleted")

    def __init__(self, copy: Copy, codec: Codec, closed: str = "") -> None:
        """`closed`: why nothing can be written, when that is so from the start."""
        self._copy = copy
        self._codec = codec
        self._closed = closed
        self._seen: Dict[str, Any] = {}  # decoded or assigned in this call
        self._written: Set[str] = set()  # those of them that were assigned
        self._deleted: Set[str] = set()  # of the committed ones

    @property
    def name(self) -> str:
        """The session's name, as its client chose it."""
        return self._copy.name

    def __getitem__(self, key: str) -> Any:
        if key in self._seen:
            return self._seen[key]
        if key in self._deleted or key not in self._copy.values:
            raise KeyError(key)
        try:
            value = self._codec.unpack(self._copy.values[key])
        except Exception as exc:
            raise ValueError(f"session[{key!r}] holds what Python cannot: {reason_of(exc)}") from None
        self._seen[key] = value
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._check_open()
        key = _checked(key)
        self._seen[key] = value
        self._written.add(key)
        self._deleted.discard(key)

    def __delitem__(self, key: str) -> None:
        self._check_open()
        if key not in self:
            raise KeyError(key)
        self._seen.pop(key, None)
        self._written.discard(key)
        if key in self._copy.values:
            self._deleted.add(key)

    def __contains__(self, key: object) -> bool:
        return key in self._seen or key in self._copy.values and key not in self._deleted

    def __iter__(self) -> Iterator[str]:
        """Over the keys that there are now: the session may be written meanwhile."""
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())

    def clear(self) -> None:
        """Without looking at the values."""
        for key in self._keys():
            del self[key]

    def __repr__(self) -> str:
        return f"<Session {self.name!r} with {self._keys()!r}>"

    def _keys(self) -> List[str]:
        values = self._copy.values
        return [key for key in values if key not in self._deleted] + [key for key in self._seen if key not in values]

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(self._closed)

    # For the runner

    def changes(self) -> Tuple[Dict[str, bytes], List[str]]:
        """What is to be set, encoded, and the keys that are to go. Raises SessionMisfit."""
        changed = {}
        for key, value in list(self._seen.items()):
            if key in self._written or type(value) in (list, dict):
                packed = self._pack(key, value)
                if packed != self._copy.values.get(key) and not self._is_untouched(key, packed):
                    changed[key] = packed
        return changed, sorted(self._deleted)

    def keep(self, changed: Dict[str, bytes], deleted: List[str]) -> None:
        """The call has succeeded with that."""
        self._copy.apply(changed, deleted)

    def close(self) -> None:
        """Nothing can be written any more."""
        self._closed = "the call is over: what is written into its session now would be lost"

    def _is_untouched(self, key: str, packed: bytes) -> bool:
        """It was only read, and whoever wrote it encodes the same value otherwise: as another width, for instance."""
        if key in self._written or key not in self._copy.foreign:
            return False
        return packed == self._pack(key, self._codec.unpack(self._copy.values[key]))

    def _pack(self, key: str, value: Any) -> bytes:
        try:
            return self._codec.pack([[[[value]]]])[WRAPPERS:]
        except BaseException as exc:  # packing looks into objects of the user's
            raise SessionMisfit(describe_misfit(value, exc, f"session[{quoted(key)}]", DEPTH_MAX)) from None


def _checked(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key of a session is text, not {type(key).__name__}")
    try:
        size = len(str.encode(key))
    except UnicodeEncodeError:
        raise ValueError(f"a key of a session cannot have lone surrogates: {key!r}") from None
    if not 0 < size <= KEY_MAX:
        raise ValueError(f"a key of a session has 1 to {KEY_MAX} bytes of UTF-8, this one has {size}")
    return str.__str__(key)
