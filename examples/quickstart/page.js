// The page of the quickstart: goes online, shows who else is, and what is pushed.
'use strict';

const $ = id => document.getElementById(id);
let socket, beat, wanted = false;

function show(state, text) {
	$('state').dataset.state = state;
	$('state').textContent = text;
	$('go').textContent = wanted ? 'Go offline' : 'Go online';
}

function connect() {
	show('connecting', 'connecting');
	const ws = socket = new WebSocket(location.href.replace(/^http/, 'ws').replace(/[^/]*$/, 'ws'));
	ws.onopen = () => {
		ws.send(JSON.stringify({ action: 'open', ref: 'open', id: $('id').value, type: $('type').value, name: $('name').value }));
		beat = setInterval(() => ws.send('ping'), 25000);
	};
	ws.onmessage = event => received(event.data);
	ws.onclose = event => {
		clearInterval(beat);
		if (event.code >= 4000 && event.code < 4100) {
			wanted = false; // another tab took over, or an operator closed it
			show('closed', event.reason || 'closed');
		} else if (wanted) {
			show('waiting', 'connection lost, trying again');
			setTimeout(() => wanted && connect(), 500 + Math.random() * 2000);
		} else {
			show('closed', 'not connected');
		}
		refresh();
	};
}

function received(text) {
	if (text === 'pong') return;
	let data = text;
	try { data = JSON.parse(text); } catch { /* a push may be plain text */ }
	if (data?.action === 'reply' && data.ref === 'open') {
		show('online', 'online');
		refresh();
	} else if (data?.action === 'error') {
		wanted = false;
		show('closed', data.message);
		socket.close(1000);
	} else {
		arrived(typeof data === 'string' ? data : JSON.stringify(data));
	}
}

function arrived(text) {
	const item = document.createElement('li');
	const time = document.createElement('time');
	time.textContent = new Date().toLocaleTimeString();
	item.append(time, text);
	$('pushes').prepend(item);
	$('nothing').hidden = true;
}

async function refresh() {
	try {
		const { members } = await (await fetch('members?limit=1000')).json();
		$('members').replaceChildren(...members.map(m => {
			const item = document.createElement('li'), name = document.createElement('b'), about = document.createElement('span');
			item.dataset.state = m.state;
			name.textContent = m.member.name || m.id;
			about.textContent = [m.id, m.type, m.state === 'lingering' ? 'lost, back soon?' : ''].filter(Boolean).join(' · ');
			item.append(name, about);
			return item;
		}));
		$('count').textContent = members.length;
		$('nobody').hidden = members.length > 0;
	} catch { /* asked again in a moment */ }
}

function showCurl() {
	const body = JSON.stringify({ to: { ids: [$('id').value] }, data: { text: 'hello' } }).replaceAll("'", "'\\''");
	$('curl').textContent = `curl localhost:2019/presence/push -d '${body}'`;
}

$('form').onsubmit = event => {
	event.preventDefault();
	wanted = !wanted;
	if (wanted) connect(); else socket.close(1000);
};
$('copy').onclick = () => navigator.clipboard.writeText($('curl').textContent);
$('id').oninput = showCurl;
$('id').value = 'user-' + Math.random().toString(36).slice(2, 6);
$('name').value = ['Ann', 'Bob', 'Eve', 'Max', 'Zoe'][Math.floor(Math.random() * 5)];
showCurl();
refresh();
setInterval(refresh, 1500);
