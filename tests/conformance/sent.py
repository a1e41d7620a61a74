"""What our client sent, against botocore's service model and against what botocore itself sends."""

import datetime
import json
import os
import pathlib
import re
import unittest
import urllib.parse

import botocore
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.credentials import Credentials

import answers

NOTED = json.loads(pathlib.Path(os.environ["SENT"]).read_text())

#: Members that are optional but always sent, and how.
ALWAYS = {"UpdateRecords": {"RecordPatches": []}}

KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}


def each(check):
    """Makes a test of a check of one noted request."""

    def test(self):
        for noted in NOTED:
            with self.subTest(operation=noted["operation"], all=noted["all"]):
                check(self, noted, noted["sent"], answers.model(noted["operation"]))

    return test


def members_at(shape, location):
    return {
        name: member
        for name, member in (shape.members.items() if shape else [])
        if member.serialization.get("location") == location
    }


def present(shape, value, path=""):
    """Returns the paths of the members in an input."""
    found = set()
    if shape.type_name == "structure":
        for name, inner in value.items():
            inner_path = f"{path}.{name}".lstrip(".")
            found |= {inner_path} | present(shape.members[name], inner, inner_path)
    elif shape.type_name == "list":
        for inner in value:
            found |= present(shape.member, inner, path)
    return found


def with_dates(shape, value):
    """Makes dates of an input's seconds, as botocore takes them."""
    if shape.type_name == "structure":
        return {name: with_dates(shape.members[name], inner) for name, inner in value.items()}
    if shape.type_name == "list":
        return [with_dates(shape.member, inner) for inner in value]
    if shape.type_name == "timestamp":
        return datetime.datetime.fromtimestamp(value, datetime.timezone.utc)
    return value


def sent_by_botocore(operation, input_):
    """Returns the request that botocore would send."""
    service = answers.service_of(operation).service_name
    client = answers.SESSION.create_client(
        service, region_name="us-east-1", endpoint_url="http://127.0.0.1:1", **KEYS
    )
    sent = []

    def keep(request, **_):
        sent.append(request)
        return AWSResponse(request.url, 200, {}, Answer())

    client.meta.events.register("before-send", keep)
    getattr(client, botocore.xform_name(operation))(**input_)
    return sent[0]


class Answer:
    """An answer without members."""

    def stream(self):
        yield b"{}"


def parts(url):
    """Returns a URL's path as it is written, and its decoded query."""
    path, _, query = url.partition("?")
    return path, sorted(urllib.parse.parse_qsl(query, strict_parsing=bool(query)))


class Sent(unittest.TestCase):
    def test_every_operation_was_sent_twice(self):
        for all_ in (True, False):
            sent = [noted["operation"] for noted in NOTED if noted["all"] == all_]
            self.assertEqual(sorted(sent), sorted(answers.OURS))

    @each
    def test_with_all_members_and_with_the_least(self, noted, sent, model):
        shape, input_ = model.input_shape, noted["input"]
        if noted["all"]:
            self.assertEqual(present(shape, input_), answers.paths(shape))
            return
        always = ALWAYS.get(noted["operation"], {})
        for name, value in always.items():
            self.assertEqual(input_[name], value)
        self.assertEqual(set(input_) - set(always), set(shape.required_members))

    @each
    def test_methods_and_paths_are_the_templates(self, noted, sent, model):
        self.assertEqual(sent["method"], model.http["method"])
        path = sent["target"].partition("?")[0].split("/")
        template = model.http["requestUri"].split("/")
        self.assertEqual(len(path), len(template), path)
        for segment, part in zip(path, template):
            if not part.startswith("{"):
                self.assertEqual(segment, part)
                continue
            self.assertRegex(segment, r"^([A-Za-z0-9._~-]|%[0-9A-F]{2})+$")
            decoded = urllib.parse.unquote(segment, errors="strict")
            self.assertEqual(decoded, noted["input"][part[1:-1]])

    @each
    def test_queries_have_the_names_of_the_model(self, noted, sent, model):
        query = sent["target"].partition("?")[2]
        self.assertRegex(query, r"^([A-Za-z0-9._~=&-]|%[0-9A-F]{2})*$")
        expected = [
            (member.serialization["name"], str(noted["input"][name]))
            for name, member in members_at(model.input_shape, "querystring").items()
            if name in noted["input"]
        ]
        self.assertEqual(parts(sent["target"])[1], sorted(expected))

    @each
    def test_bodies_are_what_neither_path_nor_query_has(self, noted, sent, model):
        in_body = members_at(model.input_shape, None)
        expected = {name: value for name, value in noted["input"].items() if name in in_body}
        if in_body:
            body = json.loads(sent["body"])
            self.assertEqual(body, expected)
            answers.check_json(model.input_shape, body)
            answers.check(model.input_shape, with_dates(model.input_shape, noted["input"]), set())
        else:
            self.assertEqual(sent["body"], "")

    @each
    def test_the_headers_are_those_of_the_protocol(self, noted, sent, model):
        headers, service = sent["headers"], model.service_model
        if service.metadata["protocol"] == "json":
            target = f"{service.metadata['targetPrefix']}.{noted['operation']}"
            self.assertEqual(headers["x-amz-target"], target)
            version = service.metadata["jsonVersion"]
            self.assertEqual(headers["content-type"], f"application/x-amz-json-{version}")
        else:
            self.assertNotIn("x-amz-target", headers)
            self.assertEqual(headers["content-type"], "application/json")
        self.assertEqual("authorization" in headers, model.auth_type != "none")
        for name, member in members_at(model.input_shape, "header").items():
            self.assertEqual(headers.get(member.serialization["name"].lower()), noted["input"].get(name))

    @each
    def test_botocore_sends_the_same(self, noted, sent, model):
        input_ = with_dates(model.input_shape, noted["input"])
        theirs = sent_by_botocore(noted["operation"], input_)
        url = theirs.url.removeprefix("http://127.0.0.1:1")
        self.assertEqual(sent["method"], theirs.method)
        self.assertEqual(parts(sent["target"]), parts(url))
        body = theirs.body.read() if hasattr(theirs.body, "read") else theirs.body or b""
        if sent["body"] or body not in (b"", b"{}"):
            self.assertEqual(json.loads(sent["body"]), json.loads(body))
        for name in ("content-type", "x-amz-target"):
            value = theirs.headers.get(name)
            if value:
                value = value.decode() if isinstance(value, bytes) else value
                self.assertEqual(sent["headers"][name], value)
        self.assertEqual("authorization" in sent["headers"], "authorization" in theirs.headers)

    @each
    def test_botocore_signs_the_same(self, noted, sent, model):
        headers = sent["headers"]
        if model.auth_type == "none":
            return
        authorization = headers["authorization"]
        names = re.search("SignedHeaders=([^,]+)", authorization)[1].split(";")
        self.assertLessEqual({"host", "x-amz-date", "x-amz-security-token"}, set(names))
        request = AWSRequest(
            sent["method"],
            f"http://{headers['host']}{sent['target']}",
            {name: headers[name] for name in names},
            sent["body"].encode(),
        )
        request.context["timestamp"] = headers["x-amz-date"]
        name = model.service_model.signing_name
        keys = Credentials("AKIDEXAMPLE", "secret", "t/+=")
        signer = SigV4Auth(keys, name, "us-east-1")
        text = signer.string_to_sign(request, signer.canonical_request(request))
        signature = signer.signature(text, request)
        self.assertTrue(authorization.endswith(f"Signature={signature}"), authorization)
        self.assertIn(f"/us-east-1/{name}/aws4_request", authorization)
