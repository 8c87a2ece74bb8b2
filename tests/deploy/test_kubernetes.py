"""The Helm chart, rendered by the template language that it is written in and held against the schemas of Kubernetes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "stead"
KUBERNETES = ("1.27", "1.30", "1.33")  # the oldest that Chart.yaml admits, and later ones
RENDER = "import sys, go_template; go_template.render_template(*sys.argv[1:])"  # it aborts the process that a template fails in

Objects = dict[tuple[str, str], dict[str, Any]]


def values(**changes: Any) -> dict[str, Any]:
    """The chart's values as someone has set them."""
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    found["image"]["repository"] = "registry.example.com/shop"
    return {**found, **changes}


def rendered(place: Path, **changes: Any) -> Objects:
    """Every object of the chart, by kind and name."""
    given = place / "values.yaml"
    given.write_text(yaml.safe_dump({"Release": {"Name": "shop"}, "Values": values(**changes)}))
    objects: Objects = {}
    for template in sorted((CHART / "templates").glob("*.yaml")):
        made = place / template.name
        command = [sys.executable, "-c", RENDER, str(template), str(given), str(made)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, f"{template.name}: {result.stderr[:500]}"
        for document in yaml.safe_load_all(made.read_text()):
            if document is not None:
                objects[document["kind"], document["metadata"]["name"]] = document
    return objects


def container(objects: Objects) -> dict[str, Any]:
    found: dict[str, Any] = objects["StatefulSet", "shop"]["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_one_of_kubernetes(version: str, tmp_path: Path) -> None:
    """With every option set each object keeps the strict schema of its kind: no field is unknown or of another type."""
    objects = rendered(
        tmp_path,
        region="eu",
        blobs="s3://shop",
        configMapName="shop",
        environmentSecretName="shop-secrets",
        image={"repository": "registry.example.com/shop", "tag": "1", "pullPolicy": "Always", "pullSecrets": ["registry"]},
        ingress={
            "enabled": True,
            "className": "nginx",
            "host": "*.example.com",
            "tlsSecretName": "shop-tls",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "32m"},
        },
    )
    assert {kind for kind, _ in objects} == {"StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy", "Ingress"}
    for document in objects.values():
        kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_object_is_found(tmp_path: Path) -> None:
    """The check can fail: a field that Kubernetes does not know is refused."""
    document = rendered(tmp_path)["StatefulSet", "shop"]
    document["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, KUBERNETES[0], strict=True)


def test_what_is_not_set_is_not_there(tmp_path: Path) -> None:
    """Without options there is no ingress, no region and no further environment."""
    objects = rendered(tmp_path)
    assert ("Ingress", "shop") not in objects and "envFrom" not in container(objects)
    assert not {"STEAD_REGION", "STEAD_BLOBS"} & {variable["name"] for variable in container(objects)["env"]}


def test_services_and_budgets_choose_the_nodes(tmp_path: Path) -> None:
    """Every selector matches the labels of the nodes, and every named port is one of theirs."""
    ingress = {"enabled": True, "className": "", "host": "shop.example.com", "tlsSecretName": "", "annotations": {}}
    objects = rendered(tmp_path, ingress=ingress)
    nodes = objects["StatefulSet", "shop"]["spec"]["template"]["metadata"]["labels"]
    assert objects["StatefulSet", "shop"]["spec"]["selector"]["matchLabels"] == nodes
    assert objects["PodDisruptionBudget", "shop"]["spec"]["selector"]["matchLabels"] == nodes
    assert objects["NetworkPolicy", "shop"]["spec"]["podSelector"]["matchLabels"] == nodes
    ports = {port["name"] for port in container(objects)["ports"]}
    for name in ("shop", "shop-nodes"):
        service = objects["Service", name]["spec"]
        assert service["selector"] == nodes and {port["targetPort"] for port in service["ports"]} <= ports
    assert objects["StatefulSet", "shop"]["spec"]["serviceName"] == "shop-nodes"


def test_a_node_that_ends_has_the_time_that_it_takes(tmp_path: Path) -> None:
    """It is not killed while it still gives its actors away, answers requests or ends turns."""
    given = values()
    spec = rendered(tmp_path)["StatefulSet", "shop"]["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > given["drainS"] + 3 + 2 * given["shutdownS"]
    told = {variable["name"]: variable.get("value") for variable in container(rendered(tmp_path))["env"]}
    assert told["STEAD_SHUTDOWN_TIMEOUT_S"] == str(given["shutdownS"])
    before_stop = container(rendered(tmp_path))["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert f"--wait --timeout-s {given['drainS']} /app; sleep 3" in before_stop


def test_secrets_come_from_secrets_only(tmp_path: Path) -> None:
    """Neither the database's address, which has a password, nor the key of the channels stands in an object."""
    variables = {variable["name"]: variable for variable in container(rendered(tmp_path))["env"]}
    for name in ("STEAD_ENGINE", "STEAD_CLUSTER_KEY"):
        assert "value" not in variables[name] and variables[name]["valueFrom"]["secretKeyRef"]["name"] == "stead"


def test_every_variable_is_a_setting_of_serve(tmp_path: Path) -> None:
    """What the nodes are told with `STEAD_…` variables, `stead serve` knows."""
    told = {variable["name"] for variable in container(rendered(tmp_path, region="eu", blobs="s3://shop"))["env"]}
    command = [sys.executable, "-c", "from stead.cli import main; main()", "serve", "--help"]
    known = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "COLUMNS": "300"}
    ).stdout
    assert [name for name in told if name.startswith("STEAD_") and name not in known] == []


def test_values_are_checked(tmp_path: Path) -> None:
    """The chart's own schema takes the values that are meant, and refuses an image without a name."""
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    jsonschema.validate(values(), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load((CHART / "values.yaml").read_text()), schema)
