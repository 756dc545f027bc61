"""How a photo is put into a request, and how scores are read from an answer."""

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from benchmarks.peers.load import Connection, GrpcConnection, HttpConnection

Scores = NDArray[np.float64]  # one per label, in the order of the labels


@dataclass(frozen=True)
class Protocol:
    """`request` makes one of a tagger's name and a photo; `scores` reads an answer, given the labels."""

    connect: Callable[[int], Connection]
    request: Callable[[str, bytes], bytes]
    scores: Callable[[bytes, list[str]], Scores]


def _posted(path: str, kind: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _to_own_route(tagger: str, photo: bytes) -> bytes:
    return _posted("/tag", "image/jpeg", photo)


def _to_labelwise(tagger: str, photo: bytes) -> bytes:
    return _posted("/v1/tag?scores=all", "image/jpeg", photo)


def _to_open_inference(tagger: str, photo: bytes) -> bytes:
    data = base64.b64encode(photo).decode()
    entry = {"name": "photo", "shape": [1, 1], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
    body = json.dumps({"inputs": [{**entry, "data": [data]}]})
    return _posted("/v2/models/tagger/infer", "application/json", body.encode())


def _to_triton(tagger: str, photo: bytes) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=tagger)
    request.inputs.add(name="IMAGE", datatype="BYTES", shape=[1, 1])
    request.outputs.add(name="scores")
    request.raw_input_contents.append(struct.pack("<I", len(photo)) + photo)
    return bytes(request.SerializeToString())


def _from_own_route(answer: bytes, labels: list[str]) -> Scores:
    scores = json.loads(answer)["scores"]
    return np.array([scores[label] for label in labels])


def _from_labelwise(answer: bytes, labels: list[str]) -> Scores:
    scores = {entry["label"]: entry["score"] for entry in json.loads(answer)["scores"]}
    return np.array([scores[label] for label in labels])


def _from_open_inference(answer: bytes, labels: list[str]) -> Scores:
    return np.array(json.loads(answer)["outputs"][0]["data"])


def _from_triton(answer: bytes, labels: list[str]) -> Scores:
    response = service_pb2.ModelInferResponse.FromString(answer)
    return np.frombuffer(response.raw_output_contents[0], "<f4").astype(float)


OWN_ROUTE = Protocol(HttpConnection, _to_own_route, _from_own_route)
LABELWISE = Protocol(HttpConnection, _to_labelwise, _from_labelwise)
OPEN_INFERENCE = Protocol(HttpConnection, _to_open_inference, _from_open_inference)
TRITON = Protocol(GrpcConnection, _to_triton, _from_triton)
