"""Every operation by the AWS CLI: what it prints, its exit code, and the code it complains of."""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import unittest

import botocore

import answers
from operations import CognitoIdentity, CognitoSync, Operations

#: The exit code of the CLI when a service refused a call.
REFUSED = 255

#: The CLI would follow NextToken by itself.
ONE_PAGE = {"ListIdentityPools": ["--no-paginate"]}


class Cli(Operations):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.config = tempfile.NamedTemporaryFile("w", suffix=".config")
        cls.config.write("[default]\noutput = json\ncli_timestamp_format = iso8601\n")
        cls.config.flush()

    @classmethod
    def tearDownClass(cls):
        cls.config.close()
        super().tearDownClass()

    def run_cli(self, operation, who, params):
        environment = {**os.environ, "AWS_CONFIG_FILE": self.config.name, "AWS_MAX_ATTEMPTS": "1"}
        if who:
            environment["AWS_ACCESS_KEY_ID"] = who["AccessKeyId"]
            environment["AWS_SECRET_ACCESS_KEY"] = who["SecretKey"]
            environment["AWS_SESSION_TOKEN"] = who["SessionToken"]
        service = answers.service_of(operation).service_name
        command = [service, botocore.xform_name(operation, "-"), *ONE_PAGE.get(operation, [])]
        for name, value in params.items():
            command += arguments(name, value)
        return subprocess.run(
            [sys.executable, "-m", "awscli", *command],
            env=environment, capture_output=True, text=True, timeout=60,
        )

    def call(self, operation, who, params):
        ended = self.run_cli(operation, who, params)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        shape = answers.model(operation).output_shape
        if not shape or not shape.members:
            self.assertEqual(ended.stdout, "")
            return {}
        return with_dates(shape, json.loads(ended.stdout))

    def refused(self, operation, code, who, params):
        ended = self.run_cli(operation, who, params)
        self.assertEqual((ended.returncode, ended.stdout), (REFUSED, ""))
        text = f"An error occurred ({code}) when calling the {operation} operation: "
        self.assertIn(text, ended.stderr)


def arguments(name, value):
    """Returns a parameter as the CLI's options write it."""
    option = "--" + botocore.xform_name(name, "-")
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    if name == "IdentityIdsToDelete":
        return [option, *value]
    if isinstance(value, (dict, list)):
        return [option, json.dumps(value, default=datetime.datetime.isoformat)]
    return [option, str(value)]


def with_dates(shape, value):
    """Reads the dates in what the CLI printed."""
    if shape.type_name == "structure":
        return {name: with_dates(shape.members[name], inner) for name, inner in value.items()}
    if shape.type_name == "list":
        return [with_dates(shape.member, inner) for inner in value]
    return datetime.datetime.fromisoformat(value) if shape.type_name == "timestamp" else value


class Sync(Cli, CognitoSync, unittest.TestCase):
    pass


class Identity(Cli, CognitoIdentity, unittest.TestCase):
    pass
