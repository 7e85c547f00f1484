"""What a recipe will cost before anything is computed: parameters, memory, work and time."""

from training.planner.measure import Assumed
from training.planner.plan import Card, Plan, make_plan

__all__ = ["Assumed", "Card", "Plan", "make_plan"]
