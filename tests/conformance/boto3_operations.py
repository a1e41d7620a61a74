"""Every operation by boto3: parsed answers, and refusals as the modelled exceptions."""

import unittest

import botocore

import answers
import local
from operations import CognitoIdentity, CognitoSync, Operations


class Boto3(Operations):
    def client(self, operation, who):
        name = answers.service_of(operation).service_name
        if who:
            return local.client(name, who)
        return local.sync if name == "cognito-sync" else local.identity

    def call(self, operation, who, params):
        method = getattr(self.client(operation, who), botocore.xform_name(operation))
        answer = method(**params)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 200)
        self.assertRegex(answer["ResponseMetadata"]["RequestId"], r"^[0-9a-f-]{36}$")
        del answer["ResponseMetadata"]
        return answer

    def refused(self, operation, code, who, params):
        client = self.client(operation, who)
        with self.assertRaises(getattr(client.exceptions, code)) as caught:
            getattr(client, botocore.xform_name(operation))(**params)
        answer = caught.exception.response
        status = local.status(answers.service_of(operation), code)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], status)
        self.assertEqual(answer["Error"]["Code"], code)
        self.assertNotEqual(answer["Error"]["Message"], "")


class Sync(Boto3, CognitoSync, unittest.TestCase):
    pass


class Identity(Boto3, CognitoIdentity, unittest.TestCase):
    pass
