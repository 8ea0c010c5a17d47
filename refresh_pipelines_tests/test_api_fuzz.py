"""Whatever is sent, the API answers as it is described, and never with an error of its own."""

from __future__ import annotations

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from refresh_pipelines.orchestration.status import write_status_file
from refresh_pipelines_tests.api_bench import Api

# What exists, beside whatever else is thought of: several, because a source that runs is not run again.
KNOWN = ["fred_fx", "commodities/fred_fx", "bsee_ogora", "cftc_cot", "ndbc_stdmet", "worldbank_agriculture"]
NAMES = st.none() | st.sampled_from([*KNOWN, "broken"])
pytestmark = pytest.mark.e2e
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture
def described(home):
    home.add({"benin/broken.yaml": "a: ["})
    with Api(home) as api:
        write_status_file(api.instance, api.settings, alive=True)
        # A wrong answer raises, and is not the 500 that a server would make of it.
        yield schemathesis.openapi.from_asgi("/openapi.json", api.app, headers={"Host": "127.0.0.1"})


def test_nothing_that_is_sent_is_answered_with_a_defect(described):
    tried, statuses = set(), Counter()
    # A request that is right, which what is thought of need not be.
    right = described["/api/sources/{name}/run"]["POST"].Case(path_parameters={"name": "bsee_ogora"}, body={})
    statuses[right.call(headers={"Host": "127.0.0.1"}).status_code] += 1
    for result in described.get_all_operations():
        operation = result.ok()
        # What is declared, and what is not: of an address that takes nothing there is nothing wrong to send.
        strategy = operation.as_strategy()
        if operation.body or operation.query:
            strategy |= operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

        @settings(max_examples=25, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=strategy, name=NAMES)
        def fuzz(case, name):
            if name and "name" in case.path_parameters:
                case.path_parameters["name"] = name
            answer = case.call(headers={"Host": "127.0.0.1"})
            statuses[answer.status_code] += 1
            case.validate_response(answer, checks=CHECKS)

        fuzz()
        tried.add(operation.label)
    assert len(tried) == 12
    # What is fuzzed is the API and not its gate.
    assert {200, 202, 404, 409, 422} <= set(statuses), statuses
