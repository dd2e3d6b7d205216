"""Prints when it is imported, when it is told to and when it leaves."""
from pypool_worker import current, expose, on_stop

print("importing")


@expose
def say(text: str) -> int:
    """Without a newline at its end. The number of this call."""
    print(text, end="", flush=True)
    return current().call_id


@on_stop
def leave() -> None:
    print("leaving")
