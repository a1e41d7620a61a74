"""What an answer must be: botocore's service model, walked along with what came."""

import datetime
import os
import re

import botocore.session

SESSION = botocore.session.get_session()
SYNC = SESSION.get_service_model("cognito-sync")
IDENTITY = SESSION.get_service_model("cognito-identity")

#: All operations of Cognito Sync, and those of Cognito Identity that we have.
OURS = {
    operation
    for names in ("COGNITOFS_SYNC_OPERATIONS", "COGNITOFS_IDENTITY_OPERATIONS")
    for operation in os.environ[names].split(",")
}
assert set(SYNC.operation_names) <= OURS, "operations of the model that we lack"
assert OURS <= set(SYNC.operation_names) | set(IDENTITY.operation_names), "invented operations"


def service_of(operation):
    """Returns the service model that has an operation."""
    return SYNC if operation in SYNC.operation_names else IDENTITY


def model(operation):
    return service_of(operation).operation_model(operation)


def paths(shape, path=""):
    """Returns every member of a structure and below it, as `Records.Key`."""
    found = set()
    if shape is None:
        return found
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            inner = f"{path}.{name}".lstrip(".")
            found |= {inner} | paths(member, inner)
    elif shape.type_name == "list":
        found |= paths(shape.member, path)
    return found


def check(shape, value, seen, path=""):
    """Checks a parsed value against its shape, and adds the members that are there to `seen`."""
    kind = shape.type_name

    def expect(good):
        assert good, f"{path}: {value!r} is no {shape}"

    if kind == "structure":
        expect(isinstance(value, dict))
        unknown = set(value) - set(shape.members)
        assert not unknown, f"{path}: the model has no {unknown}"
        lacking = set(shape.required_members) - set(value)
        assert not lacking, f"{path}: required, but not there: {lacking}"
        for name, inner in value.items():
            inner_path = f"{path}.{name}".lstrip(".")
            if inner is not None:
                seen.add(inner_path)
                check(shape.members[name], inner, seen, inner_path)
    elif kind == "list":
        expect(isinstance(value, list) and in_limits(shape, len(value)))
        for inner in value:
            check(shape.member, inner, seen, path)
    elif kind == "map":
        expect(isinstance(value, dict) and in_limits(shape, len(value)))
        for key, inner in value.items():
            check(shape.key, key, seen, path)
            check(shape.value, inner, seen, path)
    elif kind == "string":
        expect(isinstance(value, str) and in_limits(shape, len(value)))
        pattern = shape.metadata.get("pattern")
        expect(pattern is None or re.fullmatch(pattern, value, re.ASCII))
        expect(value in shape.metadata.get("enum", [value]))
    elif kind == "timestamp":
        expect(isinstance(value, datetime.datetime) and value.tzinfo is not None)
    elif kind == "boolean":
        expect(isinstance(value, bool))
    else:
        assert kind in ("integer", "long"), f"{path}: the walker does not know {kind}"
        expect(isinstance(value, int) and not isinstance(value, bool))
        expect(in_limits(shape, value))


def in_limits(shape, size):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    return (low is None or size >= low) and (high is None or size <= high)


def check_json(shape, value, path=""):
    """Checks that JSON has no field that the shape lacks: botocore's parser drops those."""
    if value is None:
        return
    if shape.type_name == "structure":
        unknown = set(value) - set(shape.members)
        assert not unknown, f"{path}: the model has no {unknown}"
        for name, inner in value.items():
            check_json(shape.members[name], inner, f"{path}.{name}")
    elif shape.type_name == "list":
        for inner in value:
            check_json(shape.member, inner, path)
    elif shape.type_name == "timestamp":
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        assert number, f"{path}: {value!r} is no number of seconds"
