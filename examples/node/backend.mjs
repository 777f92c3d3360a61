// The business of the example. Each request is one frame of a client, or one
// event; the answer goes back to the client as the reply.
import { createServer } from 'node:http';

const api = process.env.PRESENCE_API ?? 'http://localhost:2019/presence';

const actions = {
  // A rider orders: every driver that is online is told.
  async order(frame, who) {
    const order = { id: crypto.randomUUID(), rider: who.id, from: frame.from, to: frame.to };
    const report = await push({ types: ['driver'] }, { event: 'order', order });
    return { order: order.id, drivers: report.sent };
  },

  // A driver accepts: the rider is told.
  async accept(frame, who) {
    if (who.type !== 'driver') throw new Refusal(403, 'only drivers accept orders');
    const report = await push({ ids: [frame.rider] }, { event: 'accepted', order: frame.order, driver: who.id });
    return { told: report.sent > 0 };
  },

  otherEvent: (frame, who) => ({ you: who.id, sent: frame }),
};

class Refusal extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

/** Pushes data to members, and returns what became of it (docs/api.md). */
async function push(to, data) {
  // Node's fetch passes for a browser, whom Caddy's admin endpoint asks for an origin.
  const headers = { Origin: new URL(api).origin };
  const res = await fetch(`${api}/push`, { method: 'POST', headers, body: JSON.stringify({ to, data }) });
  if (!res.ok) throw new Error(`push: ${await res.text()}`);
  return res.json();
}

async function answer(req, res) {
  let body = '';
  for await (const chunk of req.setEncoding('utf8')) body += chunk;
  const frame = JSON.parse(body);
  // Who sends the frame; an app with a login takes it from there (docs/actions.md).
  const who = { id: req.headers['presence-id'], type: req.headers['presence-type'] };
  const action = req.headers['presence-action'];
  if (!action) {
    console.log(`${who.type} ${who.id} is ${frame.event}`);
    res.writeHead(204).end();
    return;
  }
  const reply = await actions[action](frame, who);
  res.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(reply));
}

const server = createServer((req, res) => answer(req, res).catch((err) => {
  if (!(err instanceof Refusal)) console.error(err);
  res.writeHead(err.status ?? 500).end(JSON.stringify({ why: err.status ? err.message : 'see the log' }));
}));
server.listen(Number(process.env.PORT ?? 9000), '127.0.0.1');
