import math

import pytest

from orchestrator.laws.result import Estimate, FittedLaw
from search_spaces.errors import FitError


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_fit_without_a_finite_number_is_no_law(value):
    with pytest.raises(FitError, match="'frontier' gave no finite A, E"):
        FittedLaw(
            name="frontier",
            form="A / flops^alpha + E",
            parameters={"A": Estimate(value=value), "alpha": Estimate(value=0.1), "E": Estimate(value=value)},
        )
