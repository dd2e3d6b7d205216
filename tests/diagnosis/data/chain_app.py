"""An application whose import fails three modules deep."""
from pypool_worker import expose
import chain_orders


@expose
def price(order: int) -> int:
    return chain_orders.price(order)
