"""Amounts of US dollars, as people read them."""

from __future__ import annotations

from decimal import ROUND_UP, Decimal


def dollars(amount: Decimal) -> str:
    """`$0.80`: in cents, rounded up."""
    return f"${amount.quantize(Decimal('0.01'), ROUND_UP)}"
