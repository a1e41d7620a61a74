"""The model's limits, from both sides: for every member of every request, what just fits must not be
refused for its form, and what just does not must be."""

import copy
import re
import unittest

import botocore
from botocore.exceptions import ClientError

import answers
import local
from local import APPLICATION, MISSING, ROLE, USERS, World, client

#: For each pattern: how a text of it begins, with what it goes on to any length, and texts that are
#: not of it.
PATTERNS = {
    r"[\w-]+:[0-9a-f-]+": (
        "us-east-1:", "0", ["us-east-1", "us-east-1:", ":00", "us-east-1:0g", "us east-1:00"]
    ),
    r"[a-zA-Z0-9_.:-]+": ("", "a", ["a b", "a/b", "\u00e9", "a,b", "a\n"]),
    r"arn:aws:iam::\d+:role/.*": (
        "arn:aws:iam::123456789012:role/", "r",
        ["arn:aws:iam::123456789012:user/rrrr", "arn:aws:iam::x:role/rrrrrrrrrr", "r" * 40],
    ),
    r"arn:aws:sns:[-0-9a-z]+:\d+:app/[A-Z_]+/[a-zA-Z0-9_.-]+": (
        "arn:aws:sns:us-east-1:1:app/GCM/", "a",
        ["arn:aws:sns:us-east-1:1:app/gcm/a", "arn:aws:sns:us-east-1:1:app/GCM/", "a"],
    ),
    r"[\S]+": ("", "a", ["a b", " ", "a\n"]),
    r"\d+": ("", "1", ["a", "1a", "-1", "1.0", "1 "]),
    r"[\w\s+=,.@-]+": ("", "a", ["a/b", "a?", "\u00e9"]),
    r"[\w._-]+": ("", "a", ["a/b", "a b", "a:b", "\u00e9"]),
    r"[\w.;_/-]+": ("", "a", ["a b", "a:b", "\u00e9"]),
    r"[\w._:/-]+": ("", "a", ["a b", "a;b", "\u00e9"]),
    r"[\w_]+": ("", "a", ["a-b", "a b", "\u00e9"]),
}

#: Texts that the model allows and the local service refuses, and why.
STRICTER = {
    # The part before the colon is a region: a mount of one pool learns from it whom to call, and
    # AWS has never made another.
    "IdentityPoolId": ["US-EAST-1:0", "us_east_1:0", "region:0", "-:0"],
    "IdentityId": ["US-EAST-1:0", "us_east_1:0", "region:0", "-:0"],
}

#: Good values of members, by name. Those that are not here are made from their shapes.
GOOD = {
    "ApplicationArns": [APPLICATION],
    "RoleArn": ROLE,
    "CustomRoleArn": ROLE,
    "SyncCount": 0,
    "MaxResults": 1,
    "DeviceLastModifiedDate": 1,
    "IdentityIdsToDelete": [MISSING],
    "Events": {"SyncTrigger": ""},
}


def form(shape):
    return PATTERNS[shape.metadata["pattern"]] if "pattern" in shape.metadata else ("", "a", [])


def text(shape, length):
    begin, more, _ = form(shape)
    return (begin + more * length)[: max(length, len(begin) + 1)]


def limits(shape):
    return shape.metadata.get("min"), shape.metadata.get("max")


def beyond(shape):
    """Returns the numbers that are one too low and one too high."""
    low, high = limits(shape)
    too_low = [low - 1] if low else []
    return too_low + ([high + 1] if high is not None else [])


def just(shape):
    """Returns the lowest and the highest number."""
    return [bound for bound in limits(shape) if bound is not None]


def good_text(shape):
    if "enum" in shape.metadata:
        return list(shape.metadata["enum"])
    found = [text(shape, length) for length in just(shape)]
    if shape.metadata.get("max") and "pattern" not in shape.metadata:
        # Characters count, not bytes.
        found.append("\u00e9" * shape.metadata["max"])
    return found


def bad_text(shape):
    if "enum" in shape.metadata:
        return ["nonsense", "", shape.metadata["enum"][0].swapcase()]
    begin, more, wrong = form(shape)
    return wrong + [(begin + more * length)[:length] for length in beyond(shape)]


def example(shape, name=None):
    """Returns a good value."""
    if name in GOOD:
        return copy.deepcopy(GOOD[name])
    if shape.type_name == "structure":
        return {name: example(member, name) for name, member in shape.members.items()}
    if "enum" in shape.metadata:
        return shape.metadata["enum"][0]
    if shape.type_name == "list":
        return [example(shape.member)]
    if shape.type_name == "map":
        return {text(shape.key, 1): text(shape.value, 1)}
    return {"boolean": True, "integer": 1, "long": 1, "string": None}[shape.type_name] or (
        text(shape, max(shape.metadata.get("min", 1), 1))
    )


def many(shape, size):
    """Returns a list or a map of a size; its entries differ."""
    number = [f"{n:02x}" for n in range(size)]
    if shape.type_name == "map":
        return {text(shape.key, 1) + n: text(shape.value, 1) for n in number}
    return [text(shape.member, shape.member.metadata.get("min", 1)) + n for n in number]


def cases(shape, path=()):
    """Returns `(path, value, whether it fits)` for a shape and below it."""
    kind = shape.type_name
    if kind == "structure":
        for name, member in shape.members.items():
            yield from cases(member, (*path, name))
        return
    if kind in ("integer", "long"):
        good, bad = just(shape), beyond(shape)
    elif kind == "string":
        good, bad = good_text(shape), bad_text(shape)
    elif kind in ("list", "map"):
        good = [many(shape, size) for size in just(shape)]
        bad = [many(shape, size) for size in beyond(shape)]
        if kind == "list":
            yield from cases(shape.member, (*path, 0))
        else:
            good += [{key: text(shape.value, 1)} for key in good_text(shape.key)]
            good += [{text(shape.key, 1): value} for value in good_text(shape.value)]
            bad += [{key: text(shape.value, 1)} for key in bad_text(shape.key)]
            bad += [{text(shape.key, 1): value} for value in bad_text(shape.value)]
    else:
        return
    yield from ((path, value, True) for value in good)
    yield from ((path, value, False) for value in bad)


def put(params, path, value):
    for step in path[:-1]:
        params = params[step]
    params[path[-1]] = value


class Limits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = world = World(DeveloperProviderName="dev")
        cls.developer = {
            name: client(name, validate=False) for name in ("cognito-sync", "cognito-identity")
        }
        cls.user = client("cognito-sync", world.credentials(), validate=False)

    def params(self, operation):
        """Returns good parameters, all that there are."""
        params = example(answers.model(operation).input_shape)
        params |= {name: value for name, value in self.world.in_dataset.items() if name in params}
        if operation == "UpdateRecords":
            params["SyncSessionToken"] = self.world.token()
        # One that is not valid would be refused before anything else is looked at.
        params.pop("NextToken", None)
        if operation == "ListRecords":
            params |= {"LastSyncCount": 0, "SyncSessionToken": self.world.token()}
        return params

    def send(self, operation, params):
        """Returns the code and the message of a refusal, or nothing."""
        who = self.developer[answers.service_of(operation).service_name]
        who = self.user if operation in USERS else who
        try:
            getattr(who, botocore.xform_name(operation))(**params)
        except ClientError as refused:
            error = refused.response["Error"]
            status = refused.response["ResponseMetadata"]["HTTPStatusCode"]
            self.assertTrue(400 <= status < 500, refused)
            return error["Code"], error["Message"]
        return None, ""

    def expect(self, operation, path, value, fits):
        params = self.params(operation)
        put(params, path, value)
        code, message = self.send(operation, params)
        refused = re.match(r"\d+ validation errors? detected: ", message) is not None
        shown = repr(value)[:80]
        with self.subTest(operation=operation, path=path, value=shown, answer=(code, message)):
            if not fits:
                self.assertEqual(code, "InvalidParameterException")
            # What is no NextToken is refused, of whatever form it is.
            self.assertEqual(refused, not fits and path != ("NextToken",))

    def test_what_fits_is_not_refused_and_what_does_not_is(self):
        counted = {True: 0, False: 0}
        for operation in sorted(answers.OURS):
            for path, value, fits in cases(answers.model(operation).input_shape):
                counted[fits] += 1
                self.expect(operation, path, value, fits)
        self.assertGreater(min(counted.values()), 100)

    def test_good_parameters_are_good(self):
        """Otherwise the other tests would find every bad value refused."""
        for operation in sorted(answers.OURS):
            code, message = self.send(operation, self.params(operation))
            with self.subTest(operation=operation, code=code):
                self.assertNotRegex(message, "validation error")

    def test_what_is_required_must_be_there(self):
        for operation in sorted(answers.OURS):
            shape = answers.model(operation).input_shape
            for name in shape.required_members:
                if shape.members[name].serialization.get("location") != "uri":
                    params = self.params(operation)
                    del params[name]
                    code, message = self.send(operation, params)
                    with self.subTest(operation=operation, name=name, message=message):
                        self.assertEqual(code, "InvalidParameterException")
        for name in ("Op", "Key", "SyncCount"):
            params = self.params("UpdateRecords")
            del params["RecordPatches"][0][name]
            with self.subTest(name=name):
                self.assertEqual(self.send("UpdateRecords", params)[0], "InvalidParameterException")

    def test_where_we_are_stricter(self):
        for operation in sorted(answers.OURS):
            for name, shape in answers.model(operation).input_shape.members.items():
                for value in STRICTER.get(shape.name, []):
                    self.assertRegex(value, f"^{shape.metadata['pattern']}$")
                    self.expect(operation, (name,), value, False)
