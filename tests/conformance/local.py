"""The local service, and boto3's clients of it. What comes back is checked against the model."""

import collections
import json
import os
import pathlib
import time
import uuid

import boto3
from botocore.config import Config

import answers

STORE = pathlib.Path(os.environ["COGNITOFS_STORE"])
EVENTS = STORE.with_name(STORE.name + ".events.jsonl")
ROLE = "arn:aws:iam::123456789012:role/conformance"
APPLICATION = "arn:aws:sns:us-east-1:123456789012:app/GCM/a"
MISSING = "us-east-1:00000000-0000-4000-8000-000000000000"

#: Operations that only a user's credentials may call.
USERS = {"RegisterDevice", "SubscribeToDataset", "UnsubscribeFromDataset"}

SESSION = boto3.session.Session()

#: The members of answers that were there, by operation.
SEEN = collections.defaultdict(set)


def client(service, credentials=None, validate=True):
    """Makes a client: the developer's, or that of what GetCredentialsForIdentity gave."""
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=validate)
    keys = {}
    if credentials:
        keys = {
            "aws_access_key_id": credentials["AccessKeyId"],
            "aws_secret_access_key": credentials["SecretKey"],
            "aws_session_token": credentials["SessionToken"],
        }
    made = SESSION.client(service, config=config, **keys)
    made.meta.events.register(f"before-parse.{service}", check_body)
    made.meta.events.register(f"after-call.{service}", check_answer)
    return made


def check_body(operation_model, response_dict, **_):
    if response_dict["status_code"] < 300 and operation_model.output_shape:
        answers.check_json(operation_model.output_shape, json.loads(response_dict["body"]))


def check_answer(http_response, parsed, model, **_):
    if http_response.status_code < 300 and model.output_shape:
        members = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
        answers.check(model.output_shape, members, SEEN[model.name])


sync = client("cognito-sync")
identity = client("cognito-identity")


class Faults:
    """Trouble for the calls within: the rules of `cognitofs serve --help`."""

    path = STORE.with_name(STORE.name + ".faults")

    def __init__(self, *rules):
        self.rules = rules

    def __enter__(self):
        # At once, so that the service never reads half of it.
        written = self.path.with_suffix(".new")
        written.write_text("".join(f"{rule}\n" for rule in self.rules))
        written.rename(self.path)

    def __exit__(self, *_):
        self.path.unlink()


class World:
    """A pool of one's own, with one identity."""

    def __init__(self, **options):
        options = {"AllowUnauthenticatedIdentities": True, **options}
        made = identity.create_identity_pool(IdentityPoolName="conformance", **options)
        self.pool = made["IdentityPoolId"]
        self.identity = self.new_identity()
        self.in_pool = {"IdentityPoolId": self.pool}
        self.in_identity = {**self.in_pool, "IdentityId": self.identity}
        self.in_dataset = {**self.in_identity, "DatasetName": "settings"}

    def new_identity(self, logins=None):
        logins = {"accounts.example.com": uuid.uuid4().hex} if logins is None else logins
        self.logins = logins
        return identity.get_id(IdentityPoolId=self.pool, Logins=logins)["IdentityId"]

    def credentials(self):
        """Returns the identity's own."""
        issued = identity.get_credentials_for_identity(IdentityId=self.identity, Logins=self.logins)
        return issued["Credentials"]

    def token(self, **names):
        return sync.list_records(**{**self.in_dataset, **names})["SyncSessionToken"]

    def write(self, *patches, who=sync, **names):
        """Updates records with a new session token."""
        return who.update_records(
            **{**self.in_dataset, **names},
            RecordPatches=list(patches),
            SyncSessionToken=self.token(**names),
        )["Records"]

    def push(self):
        """Sets the pool up for push notifications."""
        push = {"ApplicationArns": [APPLICATION], "RoleArn": ROLE}
        sync.set_identity_pool_configuration(**self.in_pool, PushSync=push)

    def stream(self):
        """Sets the pool up for a stream."""
        stream = {"StreamName": "s", "RoleArn": ROLE, "StreamingStatus": "ENABLED"}
        sync.set_identity_pool_configuration(**self.in_pool, CognitoStreams=stream)

    def device(self):
        """Registers a device, in a pool that is set up for push notifications."""
        self.push()
        user = client("cognito-sync", self.credentials())
        registered = user.register_device(**self.in_identity, Platform="GCM", Token="t")
        return registered["DeviceId"]


def replace(key, value, count=0, **more):
    return {"Op": "replace", "Key": key, "Value": value, "SyncCount": count, **more}


def remove(key, count):
    return {"Op": "remove", "Key": key, "SyncCount": count}


def status(service, code):
    """Returns the HTTP status of an exception. Cognito Identity's model has none, and the service
    answers 400 to whatever is the client's fault."""
    if service.service_name == "cognito-identity":
        return 500 if code == "InternalErrorException" else 400
    return service.shape_for(code).metadata["error"]["httpStatusCode"]


def ended_publish(world):
    """Waits until a world's bulk publish is no longer under way."""
    patience = time.monotonic() + 20
    while True:
        details = sync.get_bulk_publish_details(**world.in_pool)
        if details["BulkPublishStatus"] in ("SUCCEEDED", "FAILED"):
            return
        if time.monotonic() > patience:
            raise TimeoutError(details)
        time.sleep(0.02)
