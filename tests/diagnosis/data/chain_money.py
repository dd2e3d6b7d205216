"""The end of the chain: needs what nobody installed."""

import a_currency_library_that_nobody_has as currency  # type: ignore[import]


def cents(order: int) -> int:
    return int(currency.cents(order))
