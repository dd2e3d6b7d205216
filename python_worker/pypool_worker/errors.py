"""The exceptions of this package: two that handlers meet, and those that the worker uses inside."""


class CallCancelled(BaseException):
    """Raised inside a handler whose caller cancelled the call. Not an Exception: `except Exception` lets it through."""


class DeadlineExceeded(BaseException):
    """Raised inside a handler whose call is past its deadline. Not an Exception: `except Exception` lets it through."""


class ProtocolError(Exception):
    """The daemon and this worker do not understand one another any more: the worker must end."""


class BadRequest(Exception):
    """The call cannot be carried out as it was sent; the worker goes on."""
