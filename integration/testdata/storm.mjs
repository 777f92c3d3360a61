// Connects many clients, and prints as JSON when each tried to come back after
// the server was lost. Ends when its input does.
import { connect } from '../../client/dist/presence.mjs';
import { WebSocket } from '../../client/node_modules/ws/wrapper.mjs';

const [url, count] = process.argv.slice(2);
const attempts = [];
let lost;
for (let n = 0; n < count; n++) {
	const p = connect(url, { member: { id: n }, WebSocket, maxDelay: 4000 });
	p.on('offline', () => lost ??= Date.now());
	p.on('connecting', () => lost && attempts.push(Date.now() - lost));
}
process.stdin.resume().on('end', () => {
	process.stdout.write(JSON.stringify(attempts), () => process.exit());
});
