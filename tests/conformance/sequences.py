"""What AWS's own tests asserted of the real service, by boto3, where tests/service_conformance.rs has
it not: named after the tests and the files they are in."""

import concurrent.futures
import http.server
import json
import threading
import unittest

from botocore.exceptions import ClientError

import local
from local import APPLICATION, World, client, remove, replace


class AwsSdkJs(unittest.TestCase):
    """features/cognitosync/cognitosync.feature of aws/aws-sdk-js."""

    def test_identity_pool_usage(self):
        answer = local.sync.list_identity_pool_usage()
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 200)

    def test_error_handling(self):
        with self.assertRaises(local.sync.exceptions.InvalidParameterException) as caught:
            local.sync.list_datasets(IdentityPoolId="INVALID", IdentityId="A:B:C")
        self.assertIn("2 validation errors detected", str(caught.exception))
        with self.assertRaises(local.sync.exceptions.InvalidParameterException) as caught:
            ids = {"IdentityPoolId": "INVALID", "IdentityId": "A:B:C"}
            local.sync.list_records(**ids, DatasetName="a/b")
        self.assertIn("3 validation errors detected", str(caught.exception))


class AwsSdkNet(unittest.TestCase):
    """sdk/test/Services/CognitoSync/IntegrationTests/CognitoSync.cs of aws/aws-sdk-net."""

    def pages(self, method, entries, **params):
        params["MaxResults"] = 1000
        while True:
            page = method(**params)
            yield from page[entries]
            if "NextToken" not in page:
                return
            params["NextToken"] = page["NextToken"]

    def test_EventsTest(self):
        world = World()
        self.assertEqual(local.sync.get_cognito_events(**world.in_pool)["Events"], {})
        function = "arn:aws:lambda:us-east-1:123456789012:function:f"
        for given, kept in [(function, {"SyncTrigger": function}), ("", {})]:
            local.sync.set_cognito_events(**world.in_pool, Events={"SyncTrigger": given})
            self.assertEqual(local.sync.get_cognito_events(**world.in_pool)["Events"], kept)

    def test_ConfigsTest(self):
        world = World()
        config = local.sync.get_identity_pool_configuration(**world.in_pool)
        self.assertEqual(config["IdentityPoolId"], world.pool)
        self.assertNotIn("PushSync", config)
        push = {"ApplicationArns": [APPLICATION]}
        local.sync.set_identity_pool_configuration(**world.in_pool, PushSync=push)
        config = local.sync.get_identity_pool_configuration(**world.in_pool)
        self.assertEqual(config["PushSync"], push)
        local.sync.set_identity_pool_configuration(**world.in_pool, PushSync={})
        config = local.sync.get_identity_pool_configuration(**world.in_pool)
        self.assertNotIn("PushSync", config)

    def test_IdentityTests(self):
        world = World()
        usages = list(self.pages(local.sync.list_identity_pool_usage, "IdentityPoolUsages"))
        self.assertIn(world.pool, [usage["IdentityPoolId"] for usage in usages])
        user = client("cognito-sync", world.credentials())
        for who in (local.sync, user):
            self.assertEqual(list(self.pages(who.list_datasets, "Datasets", **world.in_identity)), [])
        self.check_data_calls(world, user)
        dataset = user.describe_dataset(**world.in_dataset)["Dataset"]
        self.assertEqual(dataset["DatasetName"], "settings")
        usage = local.sync.describe_identity_pool_usage(**world.in_pool)["IdentityPoolUsage"]
        self.assertIn("LastModifiedDate", usage)
        usage = local.sync.describe_identity_usage(**world.in_identity)["IdentityUsage"]
        self.assertEqual((usage["IdentityId"], usage["IdentityPoolId"]), (world.identity, world.pool))
        self.assertEqual(len(list(self.pages(user.list_datasets, "Datasets", **world.in_identity))), 1)
        user.delete_dataset(**world.in_dataset)
        self.assertEqual(list(self.pages(user.list_datasets, "Datasets", **world.in_identity)), [])
        with self.assertRaises(user.exceptions.ResourceNotFoundException):
            user.describe_dataset(**world.in_dataset)

    def check_data_calls(self, world, user):
        listed = user.list_records(**world.in_dataset, MaxResults=1)
        token = listed.pop("SyncSessionToken")
        self.assertNotEqual(token, "")
        del listed["ResponseMetadata"]
        expected = {
            "Count": 0, "DatasetDeletedAfterRequestedSyncCount": False, "DatasetExists": False,
            "DatasetSyncCount": 0, "MergedDatasetNames": [], "Records": [],
        }
        self.assertEqual(listed, expected)
        for count in (0, 1):
            patches = [replace("key1", "key1", count)]
            push = {"RecordPatches": patches, "SyncSessionToken": token}
            self.assertEqual(len(user.update_records(**world.in_dataset, **push)["Records"]), 1)
            listed = user.list_records(**world.in_dataset, MaxResults=1)
            self.assertEqual((listed["Count"], len(listed["Records"])), (1, 1))
            self.assertEqual(listed["DatasetSyncCount"], count + 1)
            self.assertTrue(listed["DatasetExists"])
            self.assertFalse(listed["DatasetDeletedAfterRequestedSyncCount"])
            token = listed["SyncSessionToken"]
        found = list(self.pages(user.list_records, "Records", **world.in_dataset))
        self.assertEqual(len(found), 1)


class AwsSdkIos(unittest.TestCase):
    """AWSCognitoTests/AWSCognitoClientTest.m of aws-amplify/aws-sdk-ios."""

    def test_forceUpdate(self):
        """A new key may come with the dataset's count."""
        world = World()
        for count, key in enumerate(["a", "b", "c"]):
            listed = local.sync.list_records(**world.in_dataset)
            self.assertEqual(listed["DatasetSyncCount"], count)
            (record,) = world.write(replace(key, "forced", listed["DatasetSyncCount"]))
            self.assertEqual(record["SyncCount"], count + 1)

    def test_testSynchronizeAlreadyInProgress(self):
        """Of three that write at the same time one succeeds, and the record is updated once."""
        world = World()
        tokens = [world.token() for _ in range(3)]

        def push(token):
            try:
                patches = [replace("wifi", "on")]
                local.sync.update_records(
                    **world.in_dataset, RecordPatches=patches, SyncSessionToken=token
                )
                return None
            except ClientError as refused:
                return refused.response["Error"]["Code"]

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            codes = list(pool.map(push, tokens))
        conflict = "ResourceConflictException"
        self.assertEqual(sorted(codes, key=str), sorted([None, conflict, conflict], key=str))
        (record,) = local.sync.list_records(**world.in_dataset)["Records"]
        self.assertEqual((record["Value"], record["SyncCount"]), ("on", 1))

    def test_testSyncWithOldDirtyLocal(self):
        """Who holds an old count is refused, lists what changed since, and writes over it."""
        world = World()
        world.write(replace("conflicting", "old"))
        world.write(replace("conflicting", "forced", 1))
        with self.assertRaises(local.sync.exceptions.ResourceConflictException) as caught:
            world.write(replace("conflicting", "test", 1))
        self.assertIn("Current SyncCount for: conflicting is: 2 not: 1", str(caught.exception))
        listed = local.sync.list_records(**world.in_dataset, LastSyncCount=1)
        (theirs,) = listed["Records"]
        self.assertEqual((theirs["Value"], theirs["SyncCount"]), ("forced", 2))
        (ours,) = world.write(replace("conflicting", "test", theirs["SyncCount"]))
        self.assertEqual((ours["Value"], ours["SyncCount"]), ("test", 3))

    def test_testSyncWithLambdaModification(self):
        """What a function adds, changes and takes away is in the answer, with new counts."""
        world = World()
        world.write(replace("gone", "1"), replace("left", "1"))
        asked = []

        class Function(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append(event)
                answer = json.loads(json.dumps(event))
                records = answer["datasetRecords"]
                records["Lambda"] = {"newValue": "Lambda", "op": "replace"}
                records["key"]["newValue"] = "changed"
                records["gone"]["op"] = "remove"
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Function)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        events = {"SyncTrigger": f"http://127.0.0.1:{server.server_port}/"}
        local.sync.set_cognito_events(**world.in_pool, Events=events)
        user = client("cognito-sync", world.credentials())
        records = world.write(replace("key", "value"), who=user)
        server.shutdown()
        server.server_close()
        self.assertEqual(
            {record["Key"]: (record.get("Value"), record["SyncCount"]) for record in records},
            {"key": ("changed", 2), "Lambda": ("Lambda", 2), "gone": (None, 2)},
        )
        (event,) = asked
        self.assertEqual((event["version"], event["eventType"]), (2, "SyncTrigger"))
        self.assertEqual((event["region"], event["datasetName"]), ("us-east-1", "settings"))
        self.assertEqual(event["identityPoolId"], world.pool)
        self.assertEqual(event["identityId"], world.identity)
        self.assertEqual(set(event["datasetRecords"]), {"gone", "left", "key"})
        self.assertEqual(event["datasetRecords"]["key"]["newValue"], "value")
        listed = local.sync.list_records(**world.in_dataset)
        found = {record["Key"]: record.get("Value") for record in listed["Records"]}
        expected = {"key": "changed", "Lambda": "Lambda", "gone": None, "left": "1"}
        self.assertEqual(found, expected)


class Mobile(unittest.TestCase):
    """What the Android, JavaScript and .NET clients do: DefaultDataset.java, CognitoSyncDataset.js,
    CognitoSyncStorage.cs."""

    def test_pages_go_on_by_next_token_alone_and_the_last_ones_session_token_is_good(self):
        world = World()
        keys = [f"k{n:02}" for n in range(5)]
        world.write(*[replace(key, key) for key in keys])
        world.write(remove("k01", 1))
        found, asked = [], {"LastSyncCount": 0, "MaxResults": 2}
        while True:
            page = local.sync.list_records(**world.in_dataset, **asked)
            found += page["Records"]
            self.assertEqual(page["Count"], len(page["Records"]))
            self.assertEqual(page["DatasetSyncCount"], 2)
            if "NextToken" not in page:
                break
            asked["NextToken"] = page["NextToken"]
        self.assertEqual(sorted(record["Key"] for record in found), keys)
        (tombstone,) = [record for record in found if record.get("Value") is None]
        self.assertEqual((tombstone["Key"], tombstone["SyncCount"]), ("k01", 2))
        patches = [replace("k01", "again", tombstone["SyncCount"])]
        push = {"RecordPatches": patches, "SyncSessionToken": page["SyncSessionToken"]}
        updated = local.sync.update_records(**world.in_dataset, **push)["Records"]
        self.assertEqual([record["SyncCount"] for record in updated], [3])

    def test_a_dataset_that_was_deleted_meanwhile(self):
        world = World()
        world.write(replace("k", "1"))
        local.sync.delete_dataset(**world.in_dataset)
        listed = local.sync.list_records(**world.in_dataset, LastSyncCount=1)
        self.assertFalse(listed["DatasetExists"])
        self.assertEqual((listed["Records"], listed["DatasetSyncCount"]), ([], 0))
        (record,) = world.write(replace("k", "2"))
        listed = local.sync.list_records(**world.in_dataset, LastSyncCount=1)
        self.assertTrue(listed["DatasetExists"])
        self.assertTrue(listed["DatasetDeletedAfterRequestedSyncCount"])
        self.assertEqual(listed["DatasetSyncCount"], record["SyncCount"])

    def test_merged_names_are_dataset_names(self):
        """Merged datasets are called DATASET.IDENTITY."""
        world = World()
        merged = f"settings.{world.identity}"
        world.write(replace("k", "v"), DatasetName=merged)
        names = local.sync.list_datasets(**world.in_identity)["Datasets"]
        self.assertEqual([dataset["DatasetName"] for dataset in names], [merged])
        merged = {**world.in_identity, "DatasetName": merged}
        self.assertEqual(local.sync.list_records(**merged)["Count"], 1)
        local.sync.delete_dataset(**merged)
