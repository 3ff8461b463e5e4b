"""A realtime endpoint that is made up: it takes what it is told, and answers in text and in a little silence."""

import base64
import http
import json
import os
import sys

from websockets.sync.server import serve

WORDS = "Halt here, pay the toll, and drive on.".split()


def healthy(connection, request):
    if request.path == "/healthz":
        return connection.respond(http.HTTPStatus.OK, "ok\n")
    if request.headers.get("authorization") != f"Bearer {os.environ['KEY_OF_REALTIME']}":
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "another key\n")
    return None


def converse(connection):
    def tell(kind, **more):
        connection.send(json.dumps({"type": kind, "event_id": "event_1", **more}))

    tell("session.created", session={"type": "realtime", "object": "realtime.session", "id": "session_1"})
    asked = ""
    for message in connection:
        event = json.loads(message)
        if event["type"] == "conversation.item.create":
            asked = event["item"]["content"][0]["text"]
        elif event["type"] == "response.create":
            place = {"response_id": "response_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
            for word in WORDS:
                tell("response.output_audio_transcript.delta", delta=f"{word} ", **place)
                tell("response.output_audio.delta", delta=base64.b64encode(bytes(4800)).decode(), **place)
            usage = {"total_tokens": len(asked.split()) + len(WORDS)}
            tell("response.done", response={"object": "realtime.response", "id": "response_1", "status": "completed", "usage": usage})


with serve(converse, "127.0.0.1", int(sys.argv[1]), process_request=healthy) as server:
    server.serve_forever()
