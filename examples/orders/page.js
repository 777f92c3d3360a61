// The app of the examples: a driver sees orders and accepts them, a rider orders.
'use strict';

const $ = id => document.getElementById(id);
let presence;

function tell(text, button) {
	const item = document.createElement('li');
	item.append(text, ...(button ? [button] : []));
	$('news').prepend(item);
}

$('login').onsubmit = event => {
	event.preventDefault();
	presence?.close();
	const member = { id: $('id').value, type: $('type').value };
	presence = Presence.connect(location.href.replace(/^http/, 'ws').replace(/[^/]*$/, 'ws'), { member });
	presence.on('state', state => {
		$('state').textContent = state;
		$('order').hidden = state !== 'online' || member.type !== 'rider';
	});
	presence.on('push', arrived);
};

// send shows what is wrong, where an app would say it in its own words.
async function send(action, fields) {
	try {
		return (await presence.send(action, fields)).data;
	} catch (error) {
		tell(`${action}: ${error.message}`);
	}
}

function arrived(push) {
	if (push.event === 'accepted') return tell(`${push.driver} is on the way`);
	const { id, rider, from, to } = push.order;
	const accept = document.createElement('button');
	accept.textContent = 'Accept';
	accept.onclick = async () => {
		const reply = await send('accept', { order: id, rider });
		if (reply) accept.replaceWith(reply.told ? 'accepted' : 'accepted, but the rider is gone');
	};
	tell(`${rider}: ${from} → ${to}`, accept);
}

$('order').onsubmit = async event => {
	event.preventDefault();
	const reply = await send('order', { from: $('from').value, to: $('to').value });
	if (reply) tell(`ordered; ${reply.drivers} drivers were told`);
};
