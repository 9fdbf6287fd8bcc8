"""Renders kustomizations and holds every object of Kubernetes' own against its strict schema.

    manifests.py VERSION,VERSION FOLDER…

Prints one JSON object: each folder's name, and its objects in their order. Ends with 1 and every complaint where
one breaks the schema of any of those versions of Kubernetes.
"""

import functools
import json
import subprocess
import sys
from pathlib import Path

import yaml
from kubernetes_validate import utils

# It would read a megabyte of definitions for each object.
utils.schema_contents = functools.lru_cache(utils.schema_contents)

# Custom resources: their schemas are in tests/data/crds.
CUSTOM = ("keda.sh/", "cert-manager.io/", "monitoring.coreos.com/")


def complaints(thing, versions):
    """What the schemas of Kubernetes have against an object."""
    if thing["apiVersion"].startswith(CUSTOM):
        return
    for version in versions:
        try:
            utils.validate(thing, version, strict=True)
        except utils.ValidationError as error:
            yield f"{version}: {'.'.join(map(str, error.path))}: {error.message}"
        except utils.SchemaNotFoundError as error:
            yield error.message


def main():
    versions, folders = sys.argv[1].split(","), sys.argv[2:]
    kubectl = Path(sys.executable).with_name("kubectl")
    rendered, seen, wrong = {}, set(), []
    for folder in folders:
        command = [kubectl, "kustomize", folder]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
        rendered[Path(folder).name] = [thing for thing in yaml.safe_load_all(text) if thing]
        for thing in rendered[Path(folder).name]:
            same = json.dumps(thing, sort_keys=True)
            if same not in seen:
                seen.add(same)
                named = f"{folder}: {thing['kind']} {thing['metadata']['name']}"
                wrong += [f"{named}: {complaint}" for complaint in complaints(thing, versions)]
    if wrong:
        sys.exit("\n".join(wrong))
    json.dump(rendered, sys.stdout)


main()
