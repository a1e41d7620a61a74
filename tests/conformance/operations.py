"""Every operation, once: all members of its answer, and a refusal. A voice is a subclass that says
how an operation is called; each test is named after its operation."""

import base64
import datetime
import json

import answers
import local
from local import APPLICATION, MISSING, ROLE, World, replace

#: Members that no answer of the local service has, and why.
UNSHOWN = {
    "DescribeIdentityPoolUsage": {"IdentityPoolUsage.SyncSessionsCount"},  # null in all of AWS's
    "ListIdentityPoolUsage": {"IdentityPoolUsages.SyncSessionsCount"},  # examples too
}

DEVICE_DATE = datetime.datetime(2014, 10, 10, 20, 47, 37, tzinfo=datetime.timezone.utc)


def failed_publish():
    """Makes a world whose bulk publish failed, in a service that has not delivered anything yet."""
    local.EVENTS.mkdir()
    world = World()
    world.stream()
    world.write(replace("k", "v"))
    local.sync.bulk_publish(**world.in_pool)
    local.ended_publish(world)
    local.EVENTS.rmdir()
    return world


class Operations:
    """What the tests of all voices have in common."""

    #: The model of the service whose operations are tested.
    service = None

    def call(self, operation, who, params):
        """Calls an operation with credentials, or the developer's, and returns its answer."""
        raise NotImplementedError

    def refused(self, operation, code, who, params):
        """Calls an operation and checks that it is refused with a code."""
        raise NotImplementedError

    def setUp(self):
        self.operation = self._testMethodName.removeprefix("test_")
        self.seen = set()
        self.answered = set()
        self.refusals = set()

    def tearDown(self):
        if self.operation not in answers.OURS:
            return
        expected = answers.paths(answers.model(self.operation).output_shape)
        unseen = expected - self.seen - UNSHOWN.get(self.operation, set())
        self.assertEqual(unseen, set(), "members that no answer had")
        self.assertIn(self.operation, self.answered, "never answered")
        self.assertIn(self.operation, self.refusals, "never refused")

    def ask(self, operation, who=None, **params):
        answer = self.call(operation, who, params)
        self.answered.add(operation)
        shape = answers.model(operation).output_shape
        if operation == self.operation and shape:
            answers.check(shape, answer, self.seen)
        return answer

    def refuse(self, operation, code, who=None, **params):
        errors = {shape.name for shape in answers.model(operation).error_shapes}
        self.assertIn(code, errors)
        self.refused(operation, code, who, params)
        self.refusals.add(operation)

    def assert_now(self, date):
        self.assertLess(abs(datetime.datetime.now(datetime.timezone.utc) - date).seconds, 60)

    def test_no_operation_is_missing(self):
        tests = {name[5:] for name in dir(self) if name.startswith("test_") and name[5].isupper()}
        self.assertEqual(tests, answers.OURS & set(self.service.operation_names))
        self.assertGreaterEqual(len(tests), 10)


class CognitoSync(Operations):
    service = answers.SYNC

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.failed = failed_publish()

    def test_BulkPublish(self):
        world = World()
        world.stream()
        self.assertEqual(self.ask("BulkPublish", **world.in_pool), world.in_pool)
        local.ended_publish(world)
        self.refuse("BulkPublish", "AlreadyStreamedException", **world.in_pool)

    def test_GetBulkPublishDetails(self):
        world = World()
        answer = self.ask("GetBulkPublishDetails", **world.in_pool)
        self.assertEqual(answer, {**world.in_pool, "BulkPublishStatus": "NOT_STARTED"})
        world = self.failed
        failed = self.ask("GetBulkPublishDetails", **world.in_pool)
        self.assertEqual(failed["BulkPublishStatus"], "FAILED")
        self.assertNotEqual(failed["FailureMessage"], "")
        local.sync.bulk_publish(**world.in_pool)
        local.ended_publish(world)
        done = self.ask("GetBulkPublishDetails", **world.in_pool)
        self.assertEqual(done["BulkPublishStatus"], "SUCCEEDED")
        self.assertNotIn("FailureMessage", done)
        self.assert_now(done["BulkPublishStartTime"])
        self.assertLessEqual(done["BulkPublishStartTime"], done["BulkPublishCompleteTime"])
        missing = {"IdentityPoolId": MISSING}
        self.refuse("GetBulkPublishDetails", "ResourceNotFoundException", **missing)

    def check_dataset(self, world, dataset):
        self.assertEqual(dataset["IdentityId"], world.identity)
        self.assertEqual(dataset["DatasetName"], "settings")
        self.assertEqual((dataset["NumRecords"], dataset["DataStorage"]), (2, 12))
        self.assertEqual(dataset["LastModifiedBy"], world.identity)
        self.assert_now(dataset["CreationDate"])
        self.assertLessEqual(dataset["CreationDate"], dataset["LastModifiedDate"])

    def written(self):
        """Makes a world whose dataset a user has written."""
        world = World()
        user = local.client("cognito-sync", world.credentials())
        date = {"DeviceLastModifiedDate": DEVICE_DATE}
        world.write(replace("theme", "dark", **date), replace("k\u00e9", ""), who=user)
        return world

    def test_DescribeDataset(self):
        world = self.written()
        self.check_dataset(world, self.ask("DescribeDataset", **world.in_dataset)["Dataset"])
        missing = {**world.in_identity, "DatasetName": "missing"}
        self.refuse("DescribeDataset", "ResourceNotFoundException", **missing)

    def test_DeleteDataset(self):
        world = self.written()
        self.check_dataset(world, self.ask("DeleteDataset", **world.in_dataset)["Dataset"])
        self.refuse("DeleteDataset", "ResourceNotFoundException", **world.in_dataset)

    def test_ListDatasets(self):
        world = self.written()
        world.write(replace("k", "v"), DatasetName="x.y:z-1_")
        page = self.ask("ListDatasets", **world.in_identity, MaxResults=1)
        self.assertEqual(page["Count"], 1)
        self.check_dataset(world, page["Datasets"][0])
        rest = {"MaxResults": 60, "NextToken": page["NextToken"]}
        rest = self.ask("ListDatasets", **world.in_identity, **rest)
        self.assertEqual([found["DatasetName"] for found in rest["Datasets"]], ["x.y:z-1_"])
        self.assertNotIn("NextToken", rest)
        garbage = {**world.in_identity, "NextToken": "%"}
        self.refuse("ListDatasets", "InvalidParameterException", **garbage)

    def test_DescribeIdentityUsage(self):
        world = self.written()
        usage = self.ask("DescribeIdentityUsage", **world.in_identity)["IdentityUsage"]
        self.assert_now(usage.pop("LastModifiedDate"))
        sizes = {"DatasetCount": 1, "DataStorage": 12}
        self.assertEqual(usage, {**world.in_identity, **sizes})
        missing = {**world.in_pool, "IdentityId": MISSING}
        self.refuse("DescribeIdentityUsage", "ResourceNotFoundException", **missing)

    def test_DescribeIdentityPoolUsage(self):
        world = self.written()
        usage = self.ask("DescribeIdentityPoolUsage", **world.in_pool)["IdentityPoolUsage"]
        self.assert_now(usage.pop("LastModifiedDate"))
        self.assertEqual(usage, {**world.in_pool, "DataStorage": 12})
        who = world.credentials()
        self.refuse("DescribeIdentityPoolUsage", "NotAuthorizedException", who, **world.in_pool)

    def test_ListIdentityPoolUsage(self):
        world = self.written()
        # There is one pool with data, and at least one more behind or before it.
        World()
        page = self.ask("ListIdentityPoolUsage", MaxResults=1)
        self.assertEqual((page["Count"], page["MaxResults"]), (1, 1))
        before = base64.b64encode(b"us-east-1:0").decode()
        usages = self.ask("ListIdentityPoolUsage", MaxResults=1000, NextToken=before)
        usages = {usage["IdentityPoolId"]: usage for usage in usages["IdentityPoolUsages"]}
        usage = usages[world.pool]
        self.assert_now(usage.pop("LastModifiedDate"))
        self.assertEqual(usage, {**world.in_pool, "DataStorage": 12})
        self.refuse("ListIdentityPoolUsage", "InvalidParameterException", NextToken="%")

    def test_ListRecords(self):
        world = self.written()
        page = self.ask("ListRecords", **world.in_dataset, LastSyncCount=0, MaxResults=1)
        record = page["Records"][0]
        self.assertEqual((record["Key"], record["Value"]), ("k\u00e9", ""))
        self.assertNotIn("DeviceLastModifiedDate", record)
        rest = {"NextToken": page["NextToken"], "SyncSessionToken": page["SyncSessionToken"]}
        rest = self.ask("ListRecords", **world.in_dataset, **rest)
        self.assertNotIn("NextToken", rest)
        (record,) = rest.pop("Records")
        self.assert_now(record.pop("LastModifiedDate"))
        expected = replace("theme", "dark", 1)
        del expected["Op"]
        expected["LastModifiedBy"] = world.identity
        self.assertEqual(record, {**expected, "DeviceLastModifiedDate": DEVICE_DATE})
        expected = {
            "Count": 1, "DatasetSyncCount": 1, "LastModifiedBy": world.identity,
            "MergedDatasetNames": [], "DatasetExists": True,
            "DatasetDeletedAfterRequestedSyncCount": False,
            "SyncSessionToken": page["SyncSessionToken"],
        }
        self.assertEqual(rest, expected)
        future = {**world.in_dataset, "LastSyncCount": 2}
        self.refuse("ListRecords", "InvalidParameterException", **future)

    def test_UpdateRecords(self):
        world = World()
        patches = [
            replace("theme", "dark", DeviceLastModifiedDate=DEVICE_DATE),
            replace("b", "\U0001f600"),
        ]
        push = {"DeviceId": "phone", "SyncSessionToken": world.token()}
        answer = self.ask("UpdateRecords", **world.in_dataset, **push, RecordPatches=patches)
        first, second = answer["Records"]
        self.assert_now(first.pop("LastModifiedDate"))
        expected = {"Key": "theme", "Value": "dark", "SyncCount": 1, "LastModifiedBy": "phone"}
        self.assertEqual(first, {**expected, "DeviceLastModifiedDate": DEVICE_DATE})
        self.assertEqual((second["Key"], second["Value"]), ("b", "\U0001f600"))
        push = {"RecordPatches": [local.remove("b", 1)], "SyncSessionToken": world.token()}
        (removed,) = self.ask("UpdateRecords", **world.in_dataset, **push)["Records"]
        self.assertEqual((removed["SyncCount"], removed.get("Value")), (2, None))
        push["SyncSessionToken"] = world.token()
        stale = {**world.in_dataset, **push}
        self.refuse("UpdateRecords", "ResourceConflictException", **stale)

    def test_GetIdentityPoolConfiguration(self):
        world = World()
        answer = self.ask("GetIdentityPoolConfiguration", **world.in_pool)
        self.assertEqual(answer, world.in_pool)
        world.push()
        world.stream()
        push = {"ApplicationArns": [APPLICATION], "RoleArn": ROLE}
        stream = {"StreamName": "s", "RoleArn": ROLE, "StreamingStatus": "ENABLED"}
        answer = self.ask("GetIdentityPoolConfiguration", **world.in_pool)
        self.assertEqual(answer, {**world.in_pool, "PushSync": push, "CognitoStreams": stream})
        wrong = {"IdentityPoolId": "nonsense"}
        self.refuse("GetIdentityPoolConfiguration", "InvalidParameterException", **wrong)

    def test_SetIdentityPoolConfiguration(self):
        world = World()
        parts = {
            "PushSync": {"ApplicationArns": [APPLICATION], "RoleArn": ROLE},
            "CognitoStreams": {"StreamName": "s", "RoleArn": ROLE, "StreamingStatus": "DISABLED"},
        }
        answer = self.ask("SetIdentityPoolConfiguration", **world.in_pool, **parts)
        self.assertEqual(answer, {**world.in_pool, **parts})
        wrong = {**world.in_pool, "PushSync": {"ApplicationArns": ["arn:aws:sns"]}}
        self.refuse("SetIdentityPoolConfiguration", "InvalidParameterException", **wrong)

    def test_GetCognitoEvents(self):
        world = World()
        self.assertEqual(self.ask("GetCognitoEvents", **world.in_pool), {"Events": {}})
        events = {"SyncTrigger": "arn:aws:lambda:us-east-1:123456789012:function:f"}
        local.sync.set_cognito_events(**world.in_pool, Events=events)
        self.assertEqual(self.ask("GetCognitoEvents", **world.in_pool), {"Events": events})
        who = world.credentials()
        self.refuse("GetCognitoEvents", "NotAuthorizedException", who, **world.in_pool)

    def test_SetCognitoEvents(self):
        world = World()
        events = {"SyncTrigger": "arn:aws:lambda:us-east-1:123456789012:function:f"}
        self.assertEqual(self.ask("SetCognitoEvents", **world.in_pool, Events=events), {})
        kept = local.sync.get_cognito_events(**world.in_pool)
        self.assertEqual(kept["Events"], events)
        self.ask("SetCognitoEvents", **world.in_pool, Events={"SyncTrigger": ""})
        kept = local.sync.get_cognito_events(**world.in_pool)
        self.assertEqual(kept["Events"], {})
        missing = {"IdentityPoolId": MISSING, "Events": events}
        self.refuse("SetCognitoEvents", "ResourceNotFoundException", **missing)

    def test_RegisterDevice(self):
        world = World()
        who = world.credentials()
        device = {**world.in_identity, "Platform": "GCM", "Token": "a/b c"}
        self.refuse("RegisterDevice", "InvalidConfigurationException", who, **device)
        world.push()
        first = self.ask("RegisterDevice", who, **device)
        self.assertEqual(self.ask("RegisterDevice", who, **device), first)

    def test_SubscribeToDataset(self):
        world = self.written()
        device = {**world.in_dataset, "DeviceId": world.device()}
        who = world.credentials()
        self.assertEqual(self.ask("SubscribeToDataset", who, **device), {})
        self.refuse("SubscribeToDataset", "NotAuthorizedException", **device)

    def test_UnsubscribeFromDataset(self):
        world = self.written()
        device = {**world.in_dataset, "DeviceId": world.device()}
        who = world.credentials()
        local.client("cognito-sync", who).subscribe_to_dataset(**device)
        self.assertEqual(self.ask("UnsubscribeFromDataset", who, **device), {})
        nobody = {**world.in_dataset, "DeviceId": "a/b :?#\u00e9"}
        self.refuse("UnsubscribeFromDataset", "ResourceNotFoundException", who, **nobody)


class CognitoIdentity(Operations):
    service = answers.IDENTITY

    def test_ListIdentityPools(self):
        world = World()
        page = self.ask("ListIdentityPools", MaxResults=1)
        self.assertEqual(len(page["IdentityPools"]), 1)
        self.assertIn("NextToken", page)
        before = base64.b64encode(world.pool[:-1].encode()).decode()
        found = self.ask("ListIdentityPools", MaxResults=1, NextToken=before)["IdentityPools"]
        self.assertEqual(found, [{**world.in_pool, "IdentityPoolName": "conformance"}])
        wrong = {"MaxResults": 1, "NextToken": "%"}
        self.refuse("ListIdentityPools", "InvalidParameterException", **wrong)

    def test_ListIdentities(self):
        world = World()
        world.new_identity({})
        page = self.ask("ListIdentities", **world.in_pool, MaxResults=1)
        rest = {"NextToken": page["NextToken"], "HideDisabled": True}
        rest = self.ask("ListIdentities", **world.in_pool, MaxResults=60, **rest)
        self.assertEqual(rest["IdentityPoolId"], world.pool)
        self.assertNotIn("NextToken", rest)
        both = page["Identities"] + rest["Identities"]
        (known,) = [found for found in both if found["IdentityId"] == world.identity]
        self.assertEqual(known["Logins"], ["accounts.example.com"])
        self.assert_now(known["CreationDate"])
        self.assertEqual(len(both), 2)
        missing = {"IdentityPoolId": MISSING, "MaxResults": 1}
        self.refuse("ListIdentities", "ResourceNotFoundException", **missing)

    def test_DescribeIdentity(self):
        world = World()
        described = self.ask("DescribeIdentity", IdentityId=world.identity)
        self.assertEqual(described["IdentityId"], world.identity)
        self.assertEqual(described["Logins"], ["accounts.example.com"])
        self.assert_now(described["CreationDate"])
        self.assertLessEqual(described["CreationDate"], described["LastModifiedDate"])
        self.refuse("DescribeIdentity", "ResourceNotFoundException", IdentityId=MISSING)

    def test_GetId(self):
        world = World()
        asked = {**world.in_pool, "AccountId": "123456789012", "Logins": world.logins}
        self.assertEqual(self.ask("GetId", **asked), {"IdentityId": world.identity})
        self.assertNotEqual(self.ask("GetId", **world.in_pool)["IdentityId"], world.identity)
        self.refuse("GetId", "ResourceNotFoundException", IdentityPoolId=MISSING)

    def test_GetCredentialsForIdentity(self):
        world = World()
        asked = {"IdentityId": world.identity, "Logins": world.logins, "CustomRoleArn": ROLE}
        answer = self.ask("GetCredentialsForIdentity", **asked)
        self.assertEqual(answer["IdentityId"], world.identity)
        credentials = answer["Credentials"]
        life = credentials["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
        self.assertTrue(3500 < life.total_seconds() <= 3600, life)
        local.client("cognito-sync", credentials).list_datasets(**world.in_identity)
        wrong = {"IdentityId": world.identity, "Logins": {"accounts.example.com": "eve"}}
        self.refuse("GetCredentialsForIdentity", "NotAuthorizedException", **wrong)

    def check_token(self, world, answer, life):
        self.assertEqual(answer["IdentityId"], world.identity)
        claims = answer["Token"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(claims + "=="))
        self.assertEqual((claims["sub"], claims["aud"]), (world.identity, world.pool))
        self.assertEqual(claims["exp"] - claims["iat"], life)
        logins = {"cognito-identity.amazonaws.com": answer["Token"]}
        asked = {"IdentityId": world.identity, "Logins": logins}
        self.assertIn("Credentials", local.identity.get_credentials_for_identity(**asked))

    def test_GetOpenIdToken(self):
        world = World()
        asked = {"IdentityId": world.identity, "Logins": world.logins}
        self.check_token(world, self.ask("GetOpenIdToken", **asked), 600)
        self.refuse("GetOpenIdToken", "NotAuthorizedException", IdentityId=world.identity)

    def test_GetOpenIdTokenForDeveloperIdentity(self):
        world = World(DeveloperProviderName="dev")
        asked = {
            **world.in_identity, "Logins": {"dev": "ann"}, "TokenDuration": 60,
            "PrincipalTags": {"team": "a"},
        }
        answer = self.ask("GetOpenIdTokenForDeveloperIdentity", **asked)
        self.check_token(world, answer, 60)
        asked = {**world.in_pool, "Logins": {"dev": "ann"}}
        answer = self.ask("GetOpenIdTokenForDeveloperIdentity", **asked)
        self.check_token(world, answer, 900)
        taken = {**asked, "IdentityId": world.new_identity()}
        code = "DeveloperUserAlreadyRegisteredException"
        self.refuse("GetOpenIdTokenForDeveloperIdentity", code, **taken)

    def described_pool(self):
        provider = {"ProviderName": "cognito-idp.us-east-1.amazonaws.com/us-east-1_a"}
        return {
            "IdentityPoolName": "all +=,.@-_", "AllowUnauthenticatedIdentities": True,
            "AllowClassicFlow": False, "SupportedLoginProviders": {"www.amazon.com": "amzn1.a-b"},
            "DeveloperProviderName": "dev.login_1-a",
            "OpenIdConnectProviderARNs": ["arn:aws:iam::123456789012:oidc-provider/a"],
            "CognitoIdentityProviders": [
                {**provider, "ClientId": "abc_1", "ServerSideTokenCheck": True}
            ],
            "SamlProviderARNs": ["arn:aws:iam::123456789012:saml-provider/a"],
            "IdentityPoolTags": {"team": "", "env": "test"},
        }

    def test_CreateIdentityPool(self):
        asked = self.described_pool()
        answer = self.ask("CreateIdentityPool", **asked)
        self.assertRegex(answer.pop("IdentityPoolId"), r"^us-east-1:[0-9a-f-]{36}$")
        self.assertEqual(answer, asked)
        wrong = {"IdentityPoolName": "a/b", "AllowUnauthenticatedIdentities": False}
        self.refuse("CreateIdentityPool", "InvalidParameterException", **wrong)

    def test_DescribeIdentityPool(self):
        asked = self.described_pool()
        made = local.identity.create_identity_pool(**asked)["IdentityPoolId"]
        answer = self.ask("DescribeIdentityPool", IdentityPoolId=made)
        self.assertEqual(answer, {**asked, "IdentityPoolId": made})
        self.refuse("DescribeIdentityPool", "ResourceNotFoundException", IdentityPoolId=MISSING)

    def test_DeleteIdentities(self):
        world = World()
        answer = self.ask("DeleteIdentities", IdentityIdsToDelete=[world.identity, MISSING])
        unprocessed = [{"IdentityId": MISSING, "ErrorCode": "AccessDenied"}]
        self.assertEqual(answer, {"UnprocessedIdentityIds": unprocessed})
        with self.assertRaises(local.identity.exceptions.ResourceNotFoundException):
            local.identity.describe_identity(IdentityId=world.identity)
        wrong = {"IdentityIdsToDelete": ["nonsense"]}
        self.refuse("DeleteIdentities", "InvalidParameterException", **wrong)
