// The page of the quickstart: goes online, shows who else is, and what is pushed.
// The client, with its reconnects and heartbeats, is served by Caddy itself.
'use strict';

const $ = id => document.getElementById(id);
const words = {
	closed: 'not connected', connecting: 'connecting', connected: 'connected', online: 'online',
	waiting: 'connection lost, trying again', replaced: 'replaced: you went online elsewhere',
	kicked: 'an operator ended this', unauthorized: 'not allowed',
};
let presence;

function show(state) {
	$('state').dataset.state = state;
	$('state').textContent = words[state];
	const wanted = ['connecting', 'connected', 'online', 'waiting'].includes(state);
	$('go').textContent = wanted ? 'Go offline' : state === 'replaced' ? 'Take over here' : 'Go online';
	$('form').classList.toggle('wanted', wanted);
	refresh();
}

function toggle() {
	if (presence && $('form').classList.contains('wanted')) return presence.close();
	const member = () => ({ id: $('id').value, type: $('type').value, name: $('name').value });
	if (presence) return presence.open();
	presence = Presence.connect(location.href.replace(/^http/, 'ws').replace(/[^/]*$/, 'ws'), { member });
	presence.on('state', show);
	presence.on('push', data => arrived(typeof data === 'string' ? data : JSON.stringify(data)));
	presence.on('error', error => arrived(error.message, 'error'));
}

function arrived(text, kind = 'push') {
	const item = document.createElement('li');
	const time = document.createElement('time');
	item.dataset.kind = kind;
	time.textContent = new Date().toLocaleTimeString();
	item.append(time, text);
	$('pushes').prepend(item);
	$('nothing').hidden = true;
}

function row(m) {
	const item = document.createElement('li'), name = document.createElement('b'), about = document.createElement('span');
	item.dataset.state = m.state;
	name.textContent = m.member.name || m.id;
	about.textContent = [m.id, m.type, m.state === 'lingering' && 'lost, back soon?', m.id === $('id').value && 'you'].filter(Boolean).join(' · ');
	item.append(name, about);
	return item;
}

async function refresh() {
	try {
		const { members } = await (await fetch('members?limit=1000')).json();
		$('members').replaceChildren(...members.map(row));
		$('count').textContent = members.length;
		$('nobody').hidden = members.length > 0;
	} catch { /* asked again in a moment */ }
}

function showCurl() {
	const to = $('all').checked ? { all: true } : { ids: [$('id').value] };
	const body = JSON.stringify({ to, data: { text: $('text').value } }).replaceAll("'", "'\\''");
	$('curl').textContent = `curl localhost:2019/presence/push -d '${body}'`;
}

$('form').onsubmit = event => { event.preventDefault(); toggle(); };
$('copy').onclick = async () => {
	await navigator.clipboard.writeText($('curl').textContent);
	$('copy').textContent = 'Copied';
	setTimeout(() => $('copy').textContent = 'Copy', 1500);
};
for (const id of ['id', 'text', 'one', 'all']) $(id).addEventListener('input', showCurl);
$('id').value = 'user-' + Math.random().toString(36).slice(2, 6);
$('name').value = ['Ann', 'Bob', 'Eve', 'Max', 'Zoe'][Math.floor(Math.random() * 5)];
showCurl();
refresh();
setInterval(refresh, 1500);
