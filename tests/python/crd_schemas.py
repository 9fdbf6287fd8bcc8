"""Makes the strict JSON schemas of tests/data/crds from CustomResourceDefinitions.

    crd_schemas.py FOLDER DEFINITION.yaml…
"""

import json
import sys
from pathlib import Path

import yaml


def strict(schema):
    """The schema without what people read and what only an API server checks."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {}
    for key, value in schema.items():
        if key == "properties":
            # A status is the controller's to write.
            kept = {name: part for name, part in value.items() if not (name == "status" and "spec" in value)}
            made[key] = {name: strict(part) for name, part in kept.items()}
        elif not (key == "description" and isinstance(value, str)) and not key.startswith("x-kubernetes-"):
            made[key] = strict(value)
    free = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if made.get("type") == "object" and "properties" in made and not free:
        made.setdefault("additionalProperties", False)
    return made


def main():
    folder, *definitions = sys.argv[1:]
    for path in definitions:
        definition = yaml.safe_load(Path(path).read_text())["spec"]
        for version in definition["versions"]:
            if not version["served"]:
                continue
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            kind, group = definition["names"]["kind"], definition["group"].split(".")[0]
            name = f"{kind}-{group}-{version['name']}.json".lower()
            text = json.dumps(schema, separators=(",", ":"), sort_keys=True)
            Path(folder, name).write_text(text + "\n")


main()
