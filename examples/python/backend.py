"""The business of the example. Each request is one frame of a client, or one event;
the answer goes back to the client as the reply. Only the standard library."""

import json
import os
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

API = os.environ.get("PRESENCE_API", "http://localhost:2019/presence")


class Refusal(Exception):
    """What a client is refused, with an HTTP status."""

    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


def order(frame, who):
    """A rider orders: every driver that is online is told."""
    new = {"id": str(uuid.uuid4()), "rider": who["id"], "from": frame["from"], "to": frame["to"]}
    report = push({"types": ["driver"]}, {"event": "order", "order": new})
    return {"order": new["id"], "drivers": report["sent"]}


def accept(frame, who):
    """A driver accepts: the rider is told."""
    if who["type"] != "driver":
        raise Refusal(403, "only drivers accept orders")
    report = push({"ids": [frame["rider"]]}, {"event": "accepted", "order": frame["order"], "driver": who["id"]})
    return {"told": report["sent"] > 0}


def other_event(frame, who):
    return {"you": who["id"], "sent": frame}


ACTIONS = {"order": order, "accept": accept, "otherEvent": other_event}


def push(to, data):
    """Pushes data to members, and returns what became of it (docs/api.md)."""
    body = json.dumps({"to": to, "data": data}).encode()
    with urlopen(Request(API + "/push", body), timeout=5) as res:
        return json.load(res)


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # Caddy keeps its connections

    def do_POST(self):
        frame = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # Who sends the frame; an app with a login takes it from there (docs/actions.md).
        who = {"id": self.headers["Presence-Id"], "type": self.headers["Presence-Type"]}
        action = self.headers["Presence-Action"]
        if action is None:
            print(f"{who['type']} {who['id']} is {frame['event']}", flush=True)
            return self.answer(204)
        try:
            self.answer(200, ACTIONS[action](frame, who))
        except Refusal as refusal:
            self.answer(refusal.status, {"why": str(refusal)})
        except Exception:
            self.answer(500, {"why": "see the log"})
            raise

    def answer(self, status, reply=None):
        body = json.dumps(reply).encode() if reply is not None else b""
        self.send_response(status)
        if body:
            self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Caddy has a log of its own."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Backend).serve_forever()
