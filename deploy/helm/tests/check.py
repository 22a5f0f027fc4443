#!/usr/bin/env python3
"""Checks the objects on standard input: each against its schema, and all against each other.

usage: check.py KUBERNETES_VERSION VALUES_FILE
"""
import re
import sys

import kubernetes_validate
import yaml

version, values_file = sys.argv[1:]
with open(values_file) as file:
    values = yaml.safe_load(file) or {}
objects = [document for document in yaml.safe_load_all(sys.stdin) if document]
problems = []


def expect(condition, what):
    if not condition:
        problems.append(what)


def matches(selector, labels):
    return all(labels.get(name) == value for name, value in selector.items())


by_kind = {}
for item in objects:
    kind, name = item["kind"], item["metadata"]["name"]
    title = f"{kind} {name}"
    expect((kind, name) not in by_kind, f"{title}: twice")
    by_kind[kind, name] = item
    # A type of the Prometheus operator: Kubernetes has no schema for it.
    if kind != "ServiceMonitor":
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{title}: {error}")


def of_kind(*kinds):
    return [item for (kind, _), item in by_kind.items() if kind in kinds]


workloads = of_kind("Deployment", "DaemonSet")
expect(len(workloads) == 3, "not one workload for each kind of node")
services = {item["metadata"]["name"]: item for item in of_kind("Service")}
made_secrets = {item["metadata"]["name"] for item in of_kind("Secret")}

for item in workloads:
    title = item["metadata"]["name"]
    template = item["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    expect(matches(item["spec"]["selector"]["matchLabels"], labels), f"{title}: does not select its own pods")
    [container] = pod["containers"]
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    expect(len(env) == len(container["env"]), f"{title}: a variable is set twice")
    expect(all(value is None or isinstance(value, str) for value in env.values()), f"{title}: a variable is no text")
    expect(not any(re.search(r"e\+\d", value or "") for value in env.values()), f"{title}: a number in powers of ten")

    delay = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    drain = int(env["FN_SHUTDOWN_TIMEOUT"].removesuffix("s"))
    expect(pod["terminationGracePeriodSeconds"] > delay + drain, f"{title}: is killed while it drains")
    if item["kind"] == "Deployment":
        expect(delay > 0, f"{title}: refuses calls before balancers know that it is going")
        expect(pod["securityContext"]["runAsNonRoot"], f"{title}: may run as root")
        expect(not any("hostPath" in volume for volume in pod["volumes"] or []) if "volumes" in pod else True, f"{title}: mounts the node")
    security = container["securityContext"]
    expect(not security.get("privileged"), f"{title}: privileged")
    expect(security["allowPrivilegeEscalation"] is False, f"{title}: may gain privileges")
    expect(security["readOnlyRootFilesystem"], f"{title}: may write to its image")
    expect(security["capabilities"]["drop"] == ["ALL"], f"{title}: keeps capabilities")
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        expect(container[probe]["httpGet"]["path"] == path, f"{title}: {probe}")

    mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    expect(mounts.keys() == volumes.keys(), f"{title}: mounts {sorted(mounts)} of the volumes {sorted(volumes)}")
    for name, value in env.items():
        # Each file that a setting names is there.
        if name.endswith("_FILE") or name in ("FN_NODE_CERT", "FN_NODE_CERT_KEY", "FN_NODE_CERT_AUTHORITY"):
            directory, _, file = value.rpartition("/")
            volume = next((volumes[mount] for mount, path in mounts.items() if path == directory), None)
            paths = [entry["path"] for entry in volume["secret"]["items"]] if volume else []
            expect(file in paths, f"{title}: {name}={value} is not mounted")
    expect("://" not in str({k: v for k, v in env.items() if "DB_URL" in k or "MQ_URL" in k}), f"{title}: a secret is in the environment")

    tls = values.get("tls", {}).get("enabled", False)
    expect(("FN_NODE_CERT" in env) == tls, f"{title}: TLS is not as configured")
    roles = str(values.get("tls", {}).get("requireRoles", False)).lower() if tls else None
    expect(env.get("FN_NODE_CERT_ROLES_REQUIRED") == roles, f"{title}: roles are not as configured")
    if "FN_RUNNER_API_URL" in env:
        scheme, host, port = re.fullmatch(r"(https?)://([^:]+):(\d+)", env["FN_RUNNER_API_URL"]).groups()
        expect((scheme == "https") == tls, f"{title}: asks the API by {scheme}")
        ports = services[host]["spec"]["ports"]
        expect(int(port) in [entry["port"] for entry in ports], f"{title}: the API has no port {port}")

    wanted = values.get(container["name"], {})
    for name, value in {**values.get("settings", {}), **wanted.get("settings", {})}.items():
        expect(env[name] == (str(value).lower() if isinstance(value, bool) else str(value)), f"{title}: {name}={env[name]}")
    if wanted.get("autoscaling", {}).get("enabled"):
        expect("replicas" not in item["spec"], f"{title}: two owners of the number of pods")
        expect(("HorizontalPodAutoscaler", title) in by_kind, f"{title}: is not scaled")

all_labels = [item["spec"]["template"]["metadata"]["labels"] for item in workloads]
for item in of_kind("Service"):
    found = [labels for labels in all_labels if matches(item["spec"]["selector"], labels)]
    expect(len(found) == 1, f"Service {item['metadata']['name']}: selects {len(found)} kinds of pods")
for item in of_kind("PodDisruptionBudget"):
    found = [labels for labels in all_labels if matches(item["spec"]["selector"]["matchLabels"], labels)]
    expect(len(found) == 1, f"PodDisruptionBudget {item['metadata']['name']}: selects {len(found)} kinds of pods")
for item in of_kind("Ingress"):
    for rule in item["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            backend = path["backend"]["service"]
            ports = services[backend["name"]]["spec"]["ports"]
            expect(backend["port"]["name"] in [entry["name"] for entry in ports], f"Ingress: no port at {backend}")
for what in ("database", "queue"):
    if values.get(what, {}).get("url"):
        expect(any(name.endswith(f"-{what}") for name in made_secrets), f"no Secret for {what}.url")
    else:
        expect(not any(name.endswith(f"-{what}") for name in made_secrets), f"a Secret for no {what}.url")
expect(bool(of_kind("NetworkPolicy")) == values.get("networkPolicy", {}).get("enabled", False), "NetworkPolicy is not as configured")
expect(bool(of_kind("ServiceMonitor")) == values.get("serviceMonitor", {}).get("enabled", False), "ServiceMonitor is not as configured")
expect(bool(of_kind("Ingress")) == values.get("ingress", {}).get("enabled", False), "Ingress is not as configured")

for problem in problems:
    print(problem, file=sys.stderr)
sys.exit(bool(problems))
