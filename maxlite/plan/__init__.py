"""What stages will cost, from their shapes, and from a compiler for machines that are not here."""

from maxlite.plan.stage import GIB, Plan, plan, total

__all__ = ["GIB", "Plan", "plan", "total"]
