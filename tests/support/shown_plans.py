"""A plan as `chameleon-data plan` prints it, without the command."""

from __future__ import annotations

from chameleon_data.jobs import tables
from chameleon_data.jobs.cli import OWN_PRICES
from chameleon_data.pipelines.build import Planned
from chameleon_data.pipelines.cost import describe_cost, estimate_cost, read_prices, read_rates


def show_plan(planned: Planned) -> None:
    """Print it, with the rates and prices of the package."""
    rates = read_rates()
    costs = estimate_cost(planned.size, rates, planned.cpus)
    tables.print_plan(planned, describe_cost(costs, read_prices(OWN_PRICES), rates))
