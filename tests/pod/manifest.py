"""Makes a Deployment that podman can run as it stands out of one that is meant for Kubernetes.

podman takes no fieldRef, has no kubelet that probes and no scheduler, and here no network of its own. So whatever a
pod's manifest says is listed below: carried over, replaced, or left out because nothing on one machine would act on it.
A field that is not listed is refused: it would be ignored, and look tested.
"""

import copy
import re


class Unknown(Exception):
    """The manifest says something that this does not know."""


DEPLOYMENT_CARRIED = {"selector", "template"}
DEPLOYMENT_LEFT_OUT = {"progressDeadlineSeconds", "replicas", "revisionHistoryLimit", "strategy"}
POD_CARRIED = {"containers", "enableServiceLinks", "securityContext", "terminationGracePeriodSeconds", "volumes"}
POD_LEFT_OUT = {"automountServiceAccountToken", "topologySpreadConstraints"}
POD_SECURITY_CARRIED = {"fsGroup", "runAsGroup", "runAsNonRoot", "runAsUser", "seccompProfile"}
CONTAINER_CARRIED = {"args", "env", "name", "resources", "securityContext", "volumeMounts"}
# Whoever runs the copy asks the probes' questions himself; with the host's network no port is mapped.
CONTAINER_LEFT_OUT = {"imagePullPolicy", "livenessProbe", "ports", "readinessProbe", "startupProbe"}
CONTAINER_REPLACED = {"image"}
CONTAINER_SECURITY_CARRIED = {"allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem"}
RESOURCES = {"cpu", "memory"}

# What the downward API would tell.
FIELDS = {
    "metadata.name": "kiln-5d9c7b6f4-x2x4z",
    "metadata.namespace": "loadtest",
    "metadata.labels['topology.kubernetes.io/zone']": "zone-a",
    "spec.nodeName": "worker-1",
    "status.podIP": "10.244.1.17",
    "status.hostIP": "10.116.0.4",
}

SUFFIXES = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def quantity(text):
    """Kubernetes' 500m, 256Mi, 2."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|Ki|Mi|Gi)?", str(text))
    if not match:
        raise Unknown(f"the quantity {text!r}")
    return float(match[1]) * SUFFIXES[match[2] or ""]


def check_fields(where, mapping, *known):
    unknown = set(mapping) - set().union(*known)
    if unknown:
        raise Unknown(f"{where}: {', '.join(sorted(unknown))}")


def literal(variable, resources):
    """The variable with its value, wherever that comes from."""
    check_fields("env", variable, {"name", "value", "valueFrom"})
    if "value" in variable:
        return variable
    source = variable["valueFrom"]
    check_fields(f"env {variable['name']}", source, {"fieldRef", "resourceFieldRef"})
    if "fieldRef" in source:
        check_fields("fieldRef", source["fieldRef"], {"apiVersion", "fieldPath"})
        path = source["fieldRef"]["fieldPath"]
        if path not in FIELDS:
            raise Unknown(f"fieldPath {path}")
        return {"name": variable["name"], "value": FIELDS[path]}
    reference = source["resourceFieldRef"]
    check_fields("resourceFieldRef", reference, {"divisor", "resource"})
    kind, resource = reference["resource"].split(".")
    value = quantity(resources[kind][resource]) / quantity(reference.get("divisor", "1"))
    return {"name": variable["name"], "value": str(round(value))}


def local_container(container, image, arguments, environment):
    check_fields("container", container, CONTAINER_CARRIED, CONTAINER_LEFT_OUT, CONTAINER_REPLACED)
    check_fields("container's securityContext", container["securityContext"], CONTAINER_SECURITY_CARRIED)
    check_fields("resources", container["resources"], {"limits", "requests"})
    for amounts in container["resources"].values():
        check_fields("resources", amounts, RESOURCES)
    carried = {name: value for name, value in container.items() if name in CONTAINER_CARRIED}
    variables = [literal(variable, container["resources"]) for variable in container["env"]]
    variables += [{"name": name, "value": value} for name, value in environment.items()]
    return carried | {"image": image, "imagePullPolicy": "Never", "env": variables,
                      "args": [*container.get("args", ["serve"]), *arguments]}


def local_volume(volume, directory):
    """podman would take an emptyDir for a volume that outlives the pod; `directory` is what the kubelet would make."""
    check_fields("volume", volume, {"name", "emptyDir"})
    check_fields("emptyDir", volume["emptyDir"], {"medium", "sizeLimit"})
    return {"name": volume["name"], "hostPath": {"path": str(directory), "type": "Directory"}}


def local_deployment(deployment, image, directory, arguments=(), environment=None):
    """A copy for podman, of one replica of one container with one volume, on the host's network."""
    deployment = copy.deepcopy(deployment)
    check_fields("Deployment", deployment["spec"], DEPLOYMENT_CARRIED, DEPLOYMENT_LEFT_OUT)
    check_fields("template", deployment["spec"]["template"], {"metadata", "spec"})
    pod = deployment["spec"]["template"]["spec"]
    check_fields("pod", pod, POD_CARRIED, POD_LEFT_OUT)
    check_fields("pod's securityContext", pod["securityContext"], POD_SECURITY_CARRIED)
    if pod["securityContext"]["seccompProfile"] != {"type": "RuntimeDefault"}:
        raise Unknown("a seccompProfile that podman would not take")
    [container] = pod["containers"]
    [volume] = pod["volumes"]
    local = {name: value for name, value in pod.items() if name in POD_CARRIED}
    local["hostNetwork"] = True
    local["containers"] = [local_container(container, image, arguments, environment or {})]
    local["volumes"] = [local_volume(volume, directory)]
    return {"apiVersion": deployment["apiVersion"], "kind": deployment["kind"],
            "metadata": {"name": deployment["metadata"]["name"]},
            "spec": {"replicas": 1, "selector": deployment["spec"]["selector"],
                     "template": {"metadata": {"labels": deployment["spec"]["template"]["metadata"]["labels"]},
                                  "spec": local}}}
