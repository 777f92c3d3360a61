// The server that this module replaces, on Node: who is online is a hash in Redis,
// connection → member. Beside it stands an index, id → connection, without which
// each open and each push would read the whole hash.
import { createServer } from "node:http";
import { createClient } from "redis";
import { WebSocketServer } from "ws";

const [, , port, socket] = process.argv;
const redis = await createClient({ socket: { path: socket } }).connect();
await redis.del(["members", "ids"]);

const conns = new Map();
let last = 0;

const server = createServer((req, res) => {
	if (req.method !== "POST" || req.url !== "/presence/push") {
		res.writeHead(404).end();
		return;
	}
	let body = "";
	req.setEncoding("utf8");
	req.on("data", (text) => (body += text));
	req.on("end", async () => {
		try {
			const sent = await push(JSON.parse(body));
			res.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ sent }));
		} catch (err) {
			res.writeHead(500).end(String(err));
		}
	});
});

new WebSocketServer({ server, path: "/ws" }).on("connection", (ws) => {
	const conn = String(++last);
	conns.set(conn, ws);
	ws.on("error", () => ws.terminate());
	ws.on("close", () => onClose(conn, ws));
	ws.on("message", (text) => onMessage(conn, ws, text.toString()).catch(() => ws.terminate()));
});
server.listen(Number(port), "127.0.0.1", 4096);

async function onMessage(conn, ws, text) {
	if (text === "ping") {
		ws.send("pong");
		return;
	}
	const { action, ref, ...member } = JSON.parse(text);
	if (action !== "open") return;
	ws.user = member.id;
	const [, before] = await redis
		.multi()
		.hSet("members", conn, JSON.stringify(member))
		.hGet("ids", member.id)
		.hSet("ids", member.id, conn)
		.exec();
	if (before && before !== conn) await redis.hDel("members", before);
	ws.send(JSON.stringify({ action: "reply", ref, ok: true }));
}

async function onClose(conn, ws) {
	conns.delete(conn);
	await redis.hDel("members", conn);
	// The index may name a newer connection of the user by now.
	if (ws.user && (await redis.hGet("ids", ws.user)) === conn) await redis.hDel("ids", ws.user);
}

async function push({ to, text }) {
	if (to.all) {
		for (const ws of conns.values()) ws.send(text);
		return conns.size;
	}
	let sent = 0;
	for (const conn of await redis.hmGet("ids", to.ids)) {
		const ws = conns.get(conn);
		if (ws) {
			ws.send(text);
			sent++;
		}
	}
	return sent;
}
