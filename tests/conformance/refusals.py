"""Every exception that the model has for an operation, raised as boto3's class for it."""

import http.server
import threading
import unittest

import botocore

import answers
import local
from local import MISSING, USERS, Faults, World, client, replace

#: What the local service never raises, and why.
UNREACHED = {
    # It decides in one transaction, so nobody comes between.
    ("DeleteDataset", "ResourceConflictException"),
    ("SetIdentityPoolConfiguration", "ConcurrentModificationException"),
    # A publish ends too soon to be met under way; the service's unit tests have that.
    ("BulkPublish", "DuplicateRequestException"),
    # Credentials end with their identity, so whoever has some has an identity.
    ("RegisterDevice", "ResourceNotFoundException"),
    # A region is always there, and has room.
    ("ListIdentityPools", "ResourceNotFoundException"),
    ("CreateIdentityPool", "ResourceConflictException"),
    ("CreateIdentityPool", "LimitExceededException"),
    ("GetId", "LimitExceededException"),
    # It asks no provider and assumes no role.
    ("GetId", "ExternalServiceException"),
    ("GetOpenIdToken", "ExternalServiceException"),
    ("GetCredentialsForIdentity", "ExternalServiceException"),
    ("GetCredentialsForIdentity", "InvalidIdentityPoolConfigurationException"),
    # A login that is another identity's is not authorized.
    ("GetOpenIdToken", "ResourceConflictException"),
    ("GetCredentialsForIdentity", "ResourceConflictException"),
}

#: Those that need no more than trouble on purpose.
FAULTS = {"TooManyRequestsException": "429", "InternalErrorException": "500"}


def modelled():
    """Returns every operation with every exception that the model has for it."""
    return {
        (operation, shape.name)
        for operation in answers.OURS
        for shape in answers.model(operation).error_shapes
    }


def function(status, body):
    """Serves a function that always answers the same, and returns its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


class Refusals(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = world = World(DeveloperProviderName="dev")
        cls.user = client("cognito-sync", world.credentials())
        cls.user_identity = client("cognito-identity", world.credentials())
        cls.reached = set()
        world.write(replace("k", "v"))

    @classmethod
    def tearDownClass(cls):
        """Checks that no exception was left out."""
        assert UNREACHED <= modelled()
        unraised = modelled() - cls.reached - UNREACHED
        assert not unraised, f"never raised: {sorted(unraised)}"
        raised = UNREACHED & cls.reached
        assert not raised, f"raised, though said to be out of reach: {sorted(raised)}"

    def refuse(self, code, operation, who=None, **params):
        """Expects an exception, with the status and the message that go with it."""
        if not who:
            sync = operation in answers.SYNC.operation_names
            who = local.sync if sync else local.identity
        with self.assertRaises(getattr(who.exceptions, code)) as caught:
            getattr(who, botocore.xform_name(operation))(**params)
        answer = caught.exception.response
        status = local.status(answers.service_of(operation), code)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], status)
        self.assertNotEqual(answer["Error"]["Message"], "")
        self.reached.add((operation, code))

    def least(self, operation):
        """Returns the parameters that an operation must have, all good but for the pool."""
        known = {
            **self.world.in_dataset, "DeviceId": "d", "Platform": "GCM", "Token": "t",
            "SyncSessionToken": "t", "Events": {}, "MaxResults": 1, "Logins": {"dev": "ann"},
            "IdentityPoolName": "p", "AllowUnauthenticatedIdentities": True,
            "IdentityIdsToDelete": [MISSING],
        }
        required = answers.model(operation).input_shape.required_members
        return {name: known[name] for name in required}

    def test_faults(self):
        for operation in sorted(answers.OURS):
            for code, fault in FAULTS.items():
                if (operation, code) in modelled():
                    with self.subTest(operation=operation, code=code):
                        with Faults(f"{fault}@{operation}"):
                            self.refuse(code, operation, **self.least(operation))

    def test_ids(self):
        """Ids and names that are none; where there is neither, a NextToken."""
        wrong = {
            "IdentityPoolId": "nonsense", "IdentityId": "nonsense",
            "IdentityIdsToDelete": ["nonsense"], "IdentityPoolName": "?",
        }
        for operation in sorted(answers.OURS):
            with self.subTest(operation=operation):
                params = self.least(operation)
                params |= {name: value for name, value in wrong.items() if name in params}
                if "IdentityPools" in operation or operation == "ListIdentityPoolUsage":
                    params["NextToken"] = "%"
                who = self.user if operation in USERS else None
                self.refuse("InvalidParameterException", operation, who, **params)

    def test_a_pool_that_is_not_there(self):
        for operation in sorted(answers.OURS - USERS):
            pair = (operation, "ResourceNotFoundException")
            if pair not in modelled() - UNREACHED:
                continue
            with self.subTest(operation=operation):
                params = self.least(operation)
                ids = {"IdentityPoolId": MISSING, "IdentityId": MISSING}
                params |= {name: value for name, value in ids.items() if name in params}
                if operation == "UpdateRecords":
                    params["SyncSessionToken"] = self.world.token(**ids)
                self.refuse("ResourceNotFoundException", operation, **params)

    def test_whose_credentials(self):
        """A developer's call by a user, a user's by a developer, and one for somebody else."""
        for operation in sorted(answers.OURS):
            unsigned = answers.model(operation).auth_type == "none"
            if unsigned or (operation, "NotAuthorizedException") not in modelled():
                continue
            with self.subTest(operation=operation):
                params = self.least(operation)
                if operation in answers.IDENTITY.operation_names:
                    who = self.user_identity
                else:
                    who = local.sync if operation in USERS else self.user
                if "IdentityId" in params:
                    params["IdentityId"] = MISSING
                self.refuse("NotAuthorizedException", operation, who, **params)

    def test_logins(self):
        world = World(AllowUnauthenticatedIdentities=False, DeveloperProviderName="dev")
        self.refuse("NotAuthorizedException", "GetId", **world.in_pool)
        asked = {"IdentityId": world.identity, "Logins": {"accounts.example.com": "eve"}}
        self.refuse("NotAuthorizedException", "GetOpenIdToken", **asked)
        self.refuse("NotAuthorizedException", "GetCredentialsForIdentity", **asked)
        ann, bob = {"accounts.example.com": "ann"}, {"graph.facebook.com": "bob"}
        world.new_identity(ann)
        bobs = {**world.in_pool, "IdentityId": world.new_identity(bob)}
        self.refuse("ResourceConflictException", "GetId", **world.in_pool, Logins={**ann, **bob})
        operation = "GetOpenIdTokenForDeveloperIdentity"
        user = {"dev": "ann"}
        local.identity.get_open_id_token_for_developer_identity(**world.in_pool, Logins=user)
        self.refuse("DeveloperUserAlreadyRegisteredException", operation, **bobs, Logins=user)
        both = {"dev": "bob", **ann}
        self.refuse("ResourceConflictException", operation, **bobs, Logins=both)

    def test_devices(self):
        world = World()
        user = client("cognito-sync", world.credentials())
        device = {**world.in_identity, "Platform": "GCM", "Token": "t"}
        self.refuse("InvalidConfigurationException", "RegisterDevice", user, **device)
        device = {**world.in_dataset, "DeviceId": world.device()}
        self.refuse("ResourceNotFoundException", "SubscribeToDataset", user, **device)
        world.write(replace("k", "v"))
        local.sync.set_identity_pool_configuration(**world.in_pool, PushSync={})
        self.refuse("InvalidConfigurationException", "SubscribeToDataset", user, **device)
        self.refuse("InvalidConfigurationException", "UnsubscribeFromDataset", user, **device)
        nobody = {**world.in_dataset, "DeviceId": "nobody"}
        self.refuse("ResourceNotFoundException", "UnsubscribeFromDataset", user, **nobody)

    def test_bulk_publish(self):
        world = World()
        self.refuse("InvalidParameterException", "BulkPublish", **world.in_pool)
        world.stream()
        local.sync.bulk_publish(**world.in_pool)
        local.ended_publish(world)
        self.refuse("AlreadyStreamedException", "BulkPublish", **world.in_pool)

    def test_updates(self):
        world = World()
        user = client("cognito-sync", world.credentials())

        def refuse(code, *patches, who=None):
            token = {"SyncSessionToken": world.token()}
            params = {**world.in_dataset, **token, "RecordPatches": list(patches)}
            self.refuse(code, "UpdateRecords", who, **params)

        refuse("ResourceConflictException", replace("k", "v", 1))
        refuse("LimitExceededException", *[replace(str(n), "") for n in range(1025)])
        events = {**world.in_pool, "Events": {"SyncTrigger": function(200, b"nonsense")}}
        local.sync.set_cognito_events(**events)
        refuse("InvalidLambdaFunctionOutputException", replace("k", "v"), who=user)
        events["Events"] = {"SyncTrigger": function(429, b"")}
        local.sync.set_cognito_events(**events)
        refuse("LambdaThrottledException", replace("k", "v"), who=user)
        self.assertFalse(local.sync.list_records(**world.in_dataset)["DatasetExists"])
