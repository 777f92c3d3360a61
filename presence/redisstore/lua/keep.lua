-- Keeps a message for those of the users that resume, and looks all of them up.
--
-- KEYS as in prelude.lua, then the list of each user
-- ARGV 1 not_after  2 epoch, for a partition that has none
--      3 window in ms  4 how many messages a list has at most
--      5 how long it is worth getting in ms; 0: as long as the window
--      6 order  7 collapse key, or empty  8 body  then the uids; the empty one is
--      the whole hub's
-- Returns {1, now, epoch, then for each user its record or nothing, and the
-- sequence or 0}, or {-2, now} if it is too late.
--
-- An entry of a list is "seq at order ttl length collapse-key body", without the
-- last two spaces: length is that of the collapse key.
local window, most, ttl, collapse = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[7]
local tail = ' ' .. text(now) .. ' ' .. ARGV[6] .. ' ' .. ttl .. ' ' .. #collapse .. ' ' .. collapse .. ARGV[8]

-- replace takes the entry of the same collapse key out, and returns how many
-- there were.
local function replace(q)
	local n = 0
	for _, entry in ipairs(redis.call('LRANGE', q, 0, -1)) do
		local length, from = string.match(entry, '^%d+ %d+ %d+ %d+ (%d+) ()')
		if tonumber(length) == #collapse and string.sub(entry, from, from + #collapse - 1) == collapse then
			n = n + redis.call('LREM', q, 1, entry)
		end
	end
	return n
end

-- keep adds the message to a list, and returns its sequence.
local function keep(uid, q, state)
	local last, floor = string.match(state, '^(%d+) (%d+)')
	last, floor = tonumber(last), tonumber(floor)
	local replaced = 0
	if collapse ~= '' then replaced = replace(q) end
	local length = redis.call('RPUSH', q, text(last + 1) .. tail)
	-- The list is gone when all that it had was too old.
	if length == 1 and replaced == 0 then floor = last end
	while length > 1 do
		local number, at = string.match(redis.call('LINDEX', q, 0), '^(%d+) (%d+)')
		if length <= most and now - tonumber(at) < window then break end
		redis.call('LPOP', q)
		floor, length = math.max(floor, tonumber(number)), length - 1
	end
	redis.call('PEXPIRE', q, window)
	redis.call('HSET', O, uid, text(last + 1) .. ' ' .. text(floor) .. ' ' .. text(window))
	return text(last + 1)
end

-- forgotten reports whether a user without a record has been so for the window.
local function forgotten(uid)
	local due = redis.call('ZSCORE', R, uid)
	return due and tonumber(due) <= now
end

local uids, places = {}, {}
for i = 9, #ARGV do uids[#uids + 1] = ARGV[i] end
local records = redis.call('HMGET', U, unpack(uids))
local states = redis.call('HMGET', O, unpack(uids))
local reply = {1, stamp(), ''}
for i, uid in ipairs(uids) do
	local state = states[i]
	if uid == '' and not state then state = text(now) .. ' ' .. text(now) end
	if state and not places[uid] and (records[i] or not forgotten(uid)) then
		places[uid] = keep(uid, KEYS[8 + i], state)
	end
	reply[#reply + 1] = records[i] or ''
	reply[#reply + 1] = places[uid] or '0'
end
if next(places) then
	redis.call('HSETNX', M, 'e', ARGV[2])
	reply[3] = redis.call('HGET', M, 'e')
end
return reply
