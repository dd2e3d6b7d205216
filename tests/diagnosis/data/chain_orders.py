"""In the middle of the chain."""
import os
import chain_money as money


def price(order: int) -> int:
    return money.cents(order) + len(os.sep)
