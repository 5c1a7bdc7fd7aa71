"""CloudTrail records as events."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from audit_logging import record_events
from audit_logging.capture.configuration import current_trail
from audit_logging.errors import EventFileError
from audit_logging.integrations.cloudtrail import from_cloudtrail, type_of

from .records import ACCOUNT, ANNA, console_login, record

REAL_DATA = Path(__file__).parents[3] / "shared" / "data" / "cloudtrail.ndjson.gz"


def document_of(cloudtrail_record):
    """Return the document that becomes of a record; a value that does not validate raises."""
    [document] = documents_of([cloudtrail_record])
    return document


def documents_of(cloudtrail_records):
    with record_events() as events:
        for event in map(from_cloudtrail, cloudtrail_records):
            current_trail().emit(event.event_type, event.facts, origin=event.origin)
    return list(events)


class TestEventType:
    @pytest.mark.parametrize(
        ("source", "name", "expected"),
        [
            ("iam.amazonaws.com", "CreateUser", "aws.iam.create_user"),
            ("iam.amazonaws.com", "ListMFADevices", "aws.iam.list_mfa_devices"),
            ("iam.amazonaws.com", "UpdateSAMLProvider", "aws.iam.update_saml_provider"),
            ("iam.amazonaws.com", "ListSSHPublicKeys", "aws.iam.list_ssh_public_keys"),
            (
                "rds.amazonaws.com",
                "DescribeOrderableDBInstanceOptions",
                "aws.rds.describe_orderable_db_instance_options",
            ),
            ("ec2.amazonaws.com", "DescribeNetworkACLs", "aws.ec2.describe_network_acls"),
            ("lambda.amazonaws.com", "AddPermission20150331v2", "aws.lambda.add_permission"),
            ("lambda.amazonaws.com", "CreateFunction20150331", "aws.lambda.create_function"),
            ("resource-explorer-2.amazonaws.com", "ListIndexes", "aws.resource_explorer_2.list_indexes"),
            ("s3.amazonaws.com.cn", "GetBucketAcl", "aws.s3.get_bucket_acl"),
            ("my.own/source", "Some Event", "aws.my_own_source.some_event"),
        ],
    )
    def test_is_the_action_in_lower_snake_case_after_the_service(self, source, name, expected):
        assert type_of(source, name) == expected

    def test_leaves_what_aws_wrote_to_be_found(self):
        document = document_of(record("iam.amazonaws.com", "CreateUser"))
        assert document["audit"]["metadata"]["eventName"] == "CreateUser"
        assert document["audit"]["metadata"]["eventSource"] == "iam.amazonaws.com"
        assert document["message"] == "anna: CreateUser (iam.amazonaws.com)"


class TestFacts:
    def test_id_time_and_request_are_the_records_own(self):
        document = document_of(record("ec2.amazonaws.com", "RunInstances"))
        assert document["event"]["id"] == "event-RunInstances"
        assert document["@timestamp"] == "2026-03-01T10:00:00.000000Z"
        assert document["http"]["request"]["id"] == "request-1"
        assert document["organization"]["id"] == ACCOUNT
        assert document["user_agent"]["original"] == "aws-cli/2.15"
        assert document["service"] == {"name": "ec2.amazonaws.com"}
        assert document["tags"] == ["cloudtrail"]

    def test_a_user_is_known_by_its_arn(self):
        document = document_of(record("ec2.amazonaws.com", "RunInstances"))
        assert document["user"] == {"id": ANNA["arn"], "name": "anna"}

    def test_a_role_acts_for_the_session_that_took_it_on(self):
        role = {"type": "Role", "arn": f"arn:aws:iam::{ACCOUNT}:role/deploy", "userName": "deploy"}
        session = f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/anna@example.com"
        identity = {
            "type": "AssumedRole",
            "principalId": "AROAEXAMPLE:anna@example.com",
            "arn": session,
            "sessionContext": {"sessionIssuer": role},
        }
        document = document_of(record("ec2.amazonaws.com", "RunInstances", userIdentity=identity))
        assert document["user"] == {
            "id": session,
            "name": "anna@example.com",
            "roles": ["deploy"],
            "effective": {"id": role["arn"]},
        }

    @pytest.mark.parametrize(
        ("identity", "user"),
        [
            (
                {"type": "Root", "arn": "arn:aws:iam::1:root", "principalId": "1"},
                {"id": "arn:aws:iam::1:root", "name": "root"},
            ),
            ({"type": "IAMUser", "principalId": "AIDA1", "userName": "bert"}, {"id": "AIDA1", "name": "bert"}),
            (
                {"type": "AWSService", "invokedBy": "rds.amazonaws.com"},
                {"id": "rds.amazonaws.com", "name": "rds.amazonaws.com"},
            ),
            ({"type": "IdentityCenterUser", "onBehalfOf": {"userId": "u-1"}}, {"id": "u-1"}),
            ({}, None),
            (None, None),
        ],
    )
    def test_whoever_acts_gets_the_best_name_there_is(self, identity, user):
        assert document_of(record("ec2.amazonaws.com", "RunInstances", userIdentity=identity)).get("user") == user

    def test_a_services_name_is_no_address_and_not_invalid(self):
        document = document_of(record("kms.amazonaws.com", "Decrypt", sourceIPAddress="secretsmanager.amazonaws.com"))
        assert "source" not in document
        assert "invalid" not in document["audit"]
        assert document["audit"]["metadata"]["sourceIPAddress"] == "secretsmanager.amazonaws.com"

    def test_an_address_is_a_field_and_not_repeated(self):
        document = document_of(record("kms.amazonaws.com", "Decrypt", sourceIPAddress="2001:DB8::1"))
        assert document["source"]["ip"] == "2001:db8::1"
        assert "sourceIPAddress" not in document["audit"]["metadata"]

    def test_an_error_is_a_failure_with_its_reason(self):
        failed = record(
            "ec2.amazonaws.com", "RunInstances", errorCode="Client.UnauthorizedOperation", errorMessage="No."
        )
        document = document_of(failed)
        assert document["event"]["outcome"] == "failure"
        assert document["event"]["reason"] == "Client.UnauthorizedOperation: No."
        assert document["log"]["level"] == "warning"
        assert document["event"]["severity"] == 30
        assert document["audit"]["metadata"]["errorCode"] == "Client.UnauthorizedOperation"
        assert document["message"].endswith("failed: Client.UnauthorizedOperation")

    def test_a_user_administered_is_the_target(self):
        created = record(
            "iam.amazonaws.com",
            "CreateUser",
            requestParameters={"userName": "bert"},
            responseElements={"user": {"arn": "arn:aws:iam::1:user/bert", "userName": "bert"}},
        )
        assert document_of(created)["user"]["target"] == {"id": "arn:aws:iam::1:user/bert", "name": "bert"}

    def test_resources_come_from_the_list_and_from_the_request(self):
        read = record(
            "secretsmanager.amazonaws.com",
            "GetSecretValue",
            requestParameters={"secretId": "prod/db", "versionStage": "AWSCURRENT"},
            resources=[{"ARN": "arn:aws:kms:::key/1"}, {"ARN": "arn:aws:kms:::key/1"}, "odd"],
        )
        assert document_of(read)["audit"]["metadata"]["resource"] == ["arn:aws:kms:::key/1", "prod/db"]

    def test_issued_credentials_are_hidden_but_not_which_key_it_was(self):
        issued = record(
            "sts.amazonaws.com",
            "AssumeRole",
            responseElements={"credentials": {"accessKeyId": "ASIAEXAMPLE", "sessionToken": "c2VjcmV0"}},
        )
        document = document_of(issued)
        assert "c2VjcmV0" not in json.dumps(document)
        assert document["audit"]["metadata"]["issued_access_key_id"] == "ASIAEXAMPLE"

    def test_everything_else_stays_in_the_metadata_and_nulls_do_not(self):
        odd = record(
            "s3.amazonaws.com", "PutObject", responseElements=None, vpcEndpointId="vpce-1", newInCloudTrail=[{"a": 1}]
        )
        metadata = document_of(odd)["audit"]["metadata"]
        assert metadata["vpcEndpointId"] == "vpce-1"
        assert metadata["newInCloudTrail"] == [{"a": 1}]
        assert metadata["userIdentity"] == ANNA
        assert "responseElements" not in metadata

    @pytest.mark.parametrize(
        ("source", "name", "more", "expected"),
        [
            ("iam.amazonaws.com", "CreateUser", {}, ("iam", "creation")),
            ("iam.amazonaws.com", "GetUser", {"readOnly": True}, ("iam", "info")),
            ("ec2.amazonaws.com", "TerminateInstances", {}, ("api", "deletion")),
            ("ec2.amazonaws.com", "ModifyImageAttribute", {}, ("api", "change")),
            ("ec2.amazonaws.com", "DescribeImages", {}, ("api", "access")),
        ],
    )
    def test_the_sort_of_act_is_ecs_s(self, source, name, more, expected):
        event = document_of(record(source, name, **more))["event"]
        assert (event["category"], event["type"]) == ([expected[0]], [expected[1]])


class TestConsoleLogin:
    def test_is_a_login_like_any_other(self):
        document = document_of(console_login("Success"))
        assert document["event"]["action"] == "user.login"
        assert document["event"]["category"] == ["authentication"]
        assert document["event"]["outcome"] == "success"

    @pytest.mark.parametrize("more", [{}, {"errorMessage": "Failed authentication"}])
    def test_fails_as_its_response_says(self, more):
        document = document_of(console_login("Failure", **more))
        assert document["event"]["outcome"] == "failure"
        assert document["log"]["level"] == "warning"
        assert document["event"]["reason"] == more.get("errorMessage", "ConsoleLogin: Failure")


class TestBrokenRecords:
    @pytest.mark.parametrize(
        ("broken", "why"),
        [
            ([], "not a JSON object"),
            ({}, "it has no eventSource"),
            ({"eventSource": "iam.amazonaws.com"}, "it has no eventName"),
            ({"eventSource": "iam.amazonaws.com", "eventName": 7}, "it has no eventName"),
            ({"eventSource": "iam.amazonaws.com", "eventName": "—"}, "it has no eventName"),
            (record("iam.amazonaws.com", "GetUser", eventTime="yesterday"), "its eventTime is 'yesterday'"),
            (record("iam.amazonaws.com", "GetUser", eventTime=None), "its eventTime is missing"),
            (record("iam.amazonaws.com", "GetUser", eventTime="2026-03-01T10:00:00"), "with a zone"),
        ],
    )
    def test_say_what_is_wrong(self, broken, why):
        with pytest.raises(EventFileError, match=why):
            from_cloudtrail(broken)

    @pytest.mark.parametrize("event_id", [None, "", "x" * 257, "\ud800", {"a": 1}, True])
    def test_without_a_usable_id_the_content_is_the_identity(self, event_id):
        first = from_cloudtrail(record("iam.amazonaws.com", "GetUser", eventID=event_id)).event_id
        assert from_cloudtrail(record("iam.amazonaws.com", "GetUser", eventID=event_id)).event_id == first
        assert from_cloudtrail(record("iam.amazonaws.com", "GetRole", eventID=event_id)).event_id != first


@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real CloudTrail records (../shared/data) are not here")
class TestRealRecords:
    def test_every_record_becomes_a_valid_event(self):
        with gzip.open(REAL_DATA, "rt") as lines:
            records = [json.loads(line) for line in lines]
        documents = documents_of(records)
        assert len({document["event"]["id"] for document in documents}) == 1934
        assert Counter(document["event"]["outcome"] for document in documents) == {"success": 1728, "failure": 206}
        assert sum("source" in document for document in documents) == sum(
            real["sourceIPAddress"][0].isdigit() for real in records
        )
        assert all("user" in document and "category" in document["event"] for document in documents)
        assert [document["@timestamp"][:19] + "Z" for document in documents] == [real["eventTime"] for real in records]
