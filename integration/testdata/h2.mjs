// A WebSocket over HTTP/2 (RFC 8441): connects, then sends each line of its input
// as a text frame, and prints each frame that comes; "close CODE" closes.
import http2 from 'node:http2';
import readline from 'node:readline';

const [url] = process.argv.slice(2);
const { origin, pathname } = new URL(url);
const session = http2.connect(origin, { rejectUnauthorized: false });
session.on('error', e => { console.log('error', e.message); process.exit(1); });
session.once('remoteSettings', settings => {
	if (!settings.enableConnectProtocol) { console.log('not offered'); process.exit(1); }
	const stream = session.request({
		':method': 'CONNECT', ':protocol': 'websocket', ':path': pathname, 'sec-websocket-version': '13',
		origin, 'sec-websocket-protocol': 'presence.v1',
	}, { endStream: false });
	stream.on('response', h => console.log('status', h[':status'], h['sec-websocket-protocol'], h['sec-websocket-accept'] ?? '-'));
	let buffer = Buffer.alloc(0);
	stream.on('data', data => {
		buffer = Buffer.concat([buffer, data]);
		while (buffer.length >= 2) {
			let n = buffer[1], at = 2;
			if (n === 126) { if (buffer.length < 4) return; n = buffer.readUInt16BE(2); at = 4; }
			if (n === 127) { if (buffer.length < 10) return; n = Number(buffer.readBigUInt64BE(2)); at = 10; }
			if (buffer.length < at + n) return;
			const op = buffer[0] & 15, payload = buffer.subarray(at, at + n);
			buffer = buffer.subarray(at + n);
			if (op === 8) { console.log('closed', payload.readUInt16BE()); stream.write(frame(0x88, payload.subarray(0, 2))); }
			else if (op === 9) stream.write(frame(0x8a, payload));
			else if (n > 100) console.log('bytes', n);
			else console.log(payload.toString());
		}
	});
	stream.on('error', e => console.log('error', e.message));
	stream.on('close', () => { console.log('ended'); process.exit(); });
	readline.createInterface({ input: process.stdin }).on('line', line => {
		if (line === 'stop reading') return stream.pause();
		if (line === 'read') return stream.resume();
		if (line.startsWith('close ')) {
			const code = Buffer.alloc(2);
			code.writeUInt16BE(Number(line.slice(6)));
			return stream.write(frame(0x88, code));
		}
		stream.write(frame(0x81, Buffer.from(line)));
	});
});

function frame(first, payload) {
	const head = payload.length < 126 ? Buffer.from([first, 0x80 | payload.length])
		: Buffer.from([first, 0x80 | 126, payload.length >> 8, payload.length & 255]);
	return Buffer.concat([head, Buffer.alloc(4), payload]); // masked with zeros
}
