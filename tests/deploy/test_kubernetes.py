"""The manifests of deploy/kubernetes: what the cluster's own schemas, its restricted policy and Kveil say of them."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kveil.proxy.config import Settings, load
from kveil.proxy.config.limits import DRAIN_SECONDS
from kveil.proxy.policy import Policy
from kveil.proxy.workers.supervisor import GRACE_SECONDS
from tests.support.certificates import CertificateAuthority
from tests.support.listener import make_users

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
OLDEST, NEWEST = "1.29", kubernetes_validate.latest_version()
"""Native sidecars are there since the first."""
USER = 65532
FORMS = ("sidecar", "gateway")


def objects(form: str) -> list[dict[str, Any]]:
    """What the kustomization names, but the configuration."""
    names = kustomization(form)["resources"]
    return [one for name in names for one in yaml.safe_load_all((FOLDER / form / name).read_text())]


def kustomization(form: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / form / "kustomization.yaml").read_text()))


def pod(form: str) -> dict[str, Any]:
    (found,) = (one["spec"]["template"]["spec"] for one in objects(form) if one["kind"] == "Deployment")
    return dict(found)


def containers(form: str) -> list[dict[str, Any]]:
    return [*pod(form).get("initContainers", ()), *pod(form)["containers"]]


def kveil_container(form: str) -> dict[str, Any]:
    (found,) = (one for one in containers(form) if one["name"] == "kveil")
    return found


@pytest.fixture(params=FORMS)
def form(request) -> str:
    return str(request.param)


@pytest.fixture
def settings(form: str, tmp_path: Path) -> Settings:
    """Kveil's own reading, with the secrets where the pod has them, below a folder of this test."""
    secrets = tmp_path / "kveil"
    for name in ("tls", "users", "upstream"):
        (secrets / name).mkdir(parents=True)
    own = CertificateAuthority(tmp_path / "ca").issue("kveil-gateway")
    own.chain.rename(secrets / "tls" / "tls.crt")
    own.key.rename(secrets / "tls" / "tls.key")
    make_users(secrets / "users" / "users.json", ["alice"])
    for name in ("username", "password"):
        path = secrets / "upstream" / name
        path.write_text(name)
        path.chmod(0o600)
    copy = tmp_path / "kveil.yaml"
    copy.write_text((FOLDER / form / "kveil.yaml").read_text().replace("/var/run/kveil", str(secrets)))
    return load(copy, {})


def test_everything_is_named(form: str):
    """Each file is used, and each that is used is there."""
    named = {"kustomization.yaml", *kustomization(form)["resources"]}
    for generator in kustomization(form)["configMapGenerator"]:
        named |= set(generator["files"])
    assert named == {path.name for path in (FOLDER / form).iterdir()}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_schemas_of_kubernetes(form: str, version: str):
    for one in objects(form):
        kubernetes_validate.validate(one, version, strict=True)


def test_the_restricted_policy_lets_it_run(form: str):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    spec = pod(form)
    shared = spec["securityContext"]
    assert shared["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert all(volume.keys() & {"configMap", "secret"} for volume in spec["volumes"])
    for container in containers(form):
        own = {**shared, **container["securityContext"]}
        assert own["runAsNonRoot"] is True
        assert own["runAsUser"] == USER
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}


def test_it_is_bounded_and_asked(form: str):
    kveil = kveil_container(form)
    assert kveil["resources"]["limits"]["memory"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        command = kveil[probe]["exec"]["command"]
        assert command[:2] == ["kveil", "health"]
        assert ("--live" in command) is (probe != "readinessProbe")
        assert kveil[probe]["timeoutSeconds"] > 5  # `kveil health` gives up by itself, and says why
    assert pod(form).get("terminationGracePeriodSeconds", 30) > DRAIN_SECONDS + GRACE_SECONDS


def test_the_sidecar_outlives_the_application():
    (sidecar,) = pod("sidecar")["initContainers"]
    assert sidecar["restartPolicy"] == "Always"


def paths(tree: Any) -> Iterator[str]:
    """Every path that a configuration names."""
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        if isinstance(value, str) and value.removeprefix("file:").startswith("/"):
            yield value.removeprefix("file:")
        else:
            yield from paths(value)


def test_what_the_configuration_reads_is_mounted(form: str):
    kveil = kveil_container(form)
    mounted = {mount["mountPath"]: mount["name"] for mount in kveil["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(form)["volumes"]}
    assert set(mounted.values()) == set(volumes)
    assert all(mount["readOnly"] for mount in kveil["volumeMounts"])
    config = yaml.safe_load((FOLDER / form / "kveil.yaml").read_text())
    found = {str(PurePosixPath(path).parent) for path in paths(config)}
    assert found == mounted.keys() - {"/etc/kveil"}
    (generator,) = kustomization(form)["configMapGenerator"]
    assert volumes[mounted["/etc/kveil"]]["configMap"]["name"] == generator["name"]
    for path in found:
        # Root's, and the group's to read: what else there is, a key file mustn't be.
        assert volumes[mounted[path]]["secret"]["defaultMode"] == 0o400
    assert pod(form)["securityContext"]["fsGroup"] == USER


def test_the_configuration_seals(settings: Settings):
    assert Policy(settings).rule_for("orders").seal
    assert settings.upstream.tls is not None


def test_the_gateway_asks_who_they_are():
    (service,) = (one for one in objects("gateway") if one["kind"] == "Service")
    (listener,) = yaml.safe_load((FOLDER / "gateway" / "kveil.yaml").read_text())["listeners"]
    assert listener["tls"]
    assert listener["sasl"]
    assert listener["advertised"] == service["metadata"]["name"]


def test_the_service_has_a_port_for_each_broker():
    config = yaml.safe_load((FOLDER / "gateway" / "kveil.yaml").read_text())
    (service,) = (one for one in objects("gateway") if one["kind"] == "Service")
    first = int(config["listeners"][0]["address"].rpartition(":")[2])
    ports = [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]]
    assert ports == [(port, port) for port in range(first, first + 1 + config["broker_ports"]["count"])]


def test_selectors_find_the_pods():
    labels = objects("gateway")[0]["spec"]["template"]["metadata"]["labels"]
    by_kind = {one["kind"]: one["spec"]["selector"] for one in objects("gateway")}
    assert by_kind["Service"] == labels
    assert by_kind["PodDisruptionBudget"] == by_kind["Deployment"] == {"matchLabels": labels}
