"""What is deployed agrees with the profiles and the code."""

import re
from pathlib import Path

import pytest
import yaml

from mpo_core.settings.profiles import load_config, parse_config

ROOT = Path(__file__).resolve().parent.parent
DEPLOYMENTS = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text(encoding="utf-8"))


def test_the_forms_defaults_are_the_demo():
    config = parse_config(DEPLOYMENTS["definitions"]["profile"], where="prefect.yaml")
    assert config == load_config(ROOT / "deployments" / "profiles" / "demo.yaml")


@pytest.mark.parametrize("deployment", DEPLOYMENTS["deployments"], ids=lambda deployment: deployment["name"])
def test_a_deployment_is_a_flow_with_described_parameters(deployment):
    import importlib

    path, name = deployment["entrypoint"].split(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert flow.parameters.required == ["config"]
    assert set(deployment["parameters"]) == {"config"}
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert not any(schedule["active"] for schedule in deployment.get("schedules", []))


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({}, True),
        ({"training": {"learning_rate": 0.0003}, "judging": {}, "sampling": {"backend": {}}}, True),
        ({"training": {"method": "dpo"}, "judging": "refusal_rules", "evaluation": {"benchmarks": ["held_out"]}}, True),
        ({"training": {"method": "unheard_of"}}, False),
        ({"training": {"learning_rate": "fast"}}, False),
        ({"judging": "unheard_of"}, False),
    ],
    ids=["the demo", "names left to the defaults", "names", "a method", "a number", "a judge"],
)
def test_what_prefect_makes_of_parameters(changes, accepted):
    """Prefect checks them by the flow's schema: of a deployment without what is required, of a run with it."""
    from prefect.utilities.schema_tools.validation import ValidationError, validate

    from flows.full_pipeline import full_pipeline

    config = yaml.safe_load((ROOT / "deployments" / "profiles" / "demo.yaml").read_text(encoding="utf-8")) | changes
    schema = full_pipeline.parameters.model_dump_for_openapi()
    for ignore_required in (True, False):
        try:
            validate({"config": config}, schema, raise_on_error=True, ignore_required=ignore_required)
        except ValidationError:
            assert not accepted
        else:
            assert accepted


def test_every_setting_of_the_form_is_described():
    from flows.full_pipeline import full_pipeline

    models = full_pipeline.parameters.definitions
    for name, model in models.items():
        for key, field in model.get("properties", {}).items():
            # A section is described by its model.
            section = models.get(field.get("$ref", "").rpartition("/")[2], {})
            assert field.get("description") or section.get("description"), f"{name}.{key}"


def test_the_compose_file_listens_on_loopback_and_pins_its_images():
    services = COMPOSE["services"]
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["image"] == "mpo" or re.search(r":\d+\.\d+", service["image"])
    assert {"database", "server", "deploy", "worker"} == set(services)
    assert all("healthcheck" in services[name] for name in ("database", "server"))
    # No password stands in the file.
    text = (ROOT / "deployments" / "compose.yaml").read_text(encoding="utf-8")
    assert re.findall(r"(?:PASSWORD|AUTH\w*): (?!\$\{)", text) == []
