"""Judges each line of standard input, `{"name": ..., "value": ...}`, by the schema in the file that is named as the argument.

Prints a line a value: `fits NAME`, or `fails NAME: where and why`.
"""

import json
import sys

import jsonschema

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for line in sys.stdin:
    case = json.loads(line)
    error = next(validator.iter_errors(case["value"]), None)
    print(f"fits {case['name']}" if error is None else f"fails {case['name']}: {error.json_path}: {error.message}")
