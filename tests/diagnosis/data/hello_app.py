"""Prints on stdout at import and in its handler."""
from pypool_worker import expose

print("importing")


@expose
def greet(name: str) -> str:
    print("greeting", name)
    return f"hello {name}"
