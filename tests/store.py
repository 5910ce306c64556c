"""An S3-compatible server of our own, for tests."""

import logging
import os
import uuid

import pytest


@pytest.fixture(scope="module")
def bucket():
    """The URL of an empty bucket, on a server on loopback; other processes reach it by the environment."""
    s3fs = pytest.importorskip("s3fs")
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    variables |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    before = {name: os.environ.get(name) for name in variables}
    os.environ |= variables
    s3fs.S3FileSystem.clear_instance_cache()  # it would go on with the server of an earlier file of tests
    name = f"mpo-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=name)
    yield f"s3://{name}"
    server.stop()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name)
        else:
            os.environ[name] = value
