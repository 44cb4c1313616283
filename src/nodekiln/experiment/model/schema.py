"""Generate the JSON Schema of results.json from the data model, with the docstrings of its fields.

`python -m nodekiln.experiment.model.schema > docs/results.schema.json` writes it anew after a change of the
model.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from itertools import pairwise
from typing import Any

import msgspec

from nodekiln.experiment.model import results


def json_schema() -> str:
    """Return the text of docs/results.schema.json."""
    references, components = msgspec.json.schema_components(
        [results.Experiment, results.Sweep], ref_template="#/$defs/{name}"
    )
    for name, texts in _field_texts().items():
        for field, text in texts.items():
            components[name]["properties"][field]["description"] = text
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "results.json of nodekiln",
        "description": "Times are in milliseconds, sizes in bytes, unless a field says otherwise.",
        "anyOf": list(references),
        "$defs": components,
    }
    return json.dumps(schema, indent=2) + "\n"


def _field_texts() -> dict[str, dict[str, str]]:
    """Return the string below each field, by class and field. Python keeps it only in the source."""
    module = ast.parse(inspect.getsource(results))
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    return {node.name: _texts_in(node.body) for node in classes}


def _texts_in(body: list[ast.stmt]) -> dict[str, str]:
    texts = {}
    for field, after in pairwise(body):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                texts[name] = re.sub(r"\bNone\b", "null", text)
    return texts


if __name__ == "__main__":
    sys.stdout.write(json_schema())
