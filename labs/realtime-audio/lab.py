"""A realtime session by the official client: text in, a transcript and audio out, over one WebSocket."""

from openai import OpenAI
from websockets.exceptions import InvalidStatus

from world import URL, metrics, wait_until


def client(key):
    return OpenAI(base_url=f"{URL}/v1", websocket_base_url=f"ws{URL[4:]}/v1", api_key=key)


said, audio_bytes = "", 0
with client("lab-key-a").realtime.connect(model="gpt-realtime") as session:
    session.conversation.item.create(item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What does a tollgate say?"}]})
    session.response.create()
    for event in session:
        if event.type == "response.output_audio_transcript.delta":
            said += event.delta
        elif event.type == "response.output_audio.delta":
            audio_bytes += len(event.delta) * 3 // 4
        elif event.type == "response.done":
            break
print(f"it said: {said.strip()}")
print(f"audio:   {audio_bytes} bytes")

try:
    with client("nobody's key").realtime.connect(model="gpt-realtime"):
        pass
except InvalidStatus as refusal:
    print(f"with another key: {refusal.response.status_code}, before the backend was asked")
for name, count in sorted(wait_until("both are counted", lambda: (found := metrics("tollgate_requests_total")) and sum(found.values()) == 2 and found).items()):
    print(f"{name}: {count:.0f}")
