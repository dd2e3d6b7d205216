"""Prints while it is imported, and then fails."""
print("connecting to the licence server")


def connect() -> None:
    raise ConnectionError("licence server refused")


connect()
