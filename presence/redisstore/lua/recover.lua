-- Makes a user one that messages are kept for, and returns what it has missed.
--
-- KEYS as in prelude.lua, then 9 the list of the user
-- ARGV 1 not_after  2 epoch, for a partition that has none  3 window in ms
--      4 uid; the empty one is the whole hub's
--      5 epoch and 6 sequence up to where it has got what was kept
-- Returns {1, now, epoch, sequence, 1 if nothing is missing, entry...}, or
-- {-2, now} if it is too late. keep.lua says what an entry is.
redis.call('HSETNX', M, 'e', ARGV[2])
local epoch = redis.call('HGET', M, 'e')
local window, uid, since = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[6])

-- Numbers of an earlier life are below the clock.
local last, floor = string.match(redis.call('HGET', O, uid) or '', '^(%d+) (%d+)')
last, floor = tonumber(last or now), tonumber(floor or now)
redis.call('HSET', O, uid, text(last) .. ' ' .. text(floor) .. ' ' .. text(window))
if uid ~= '' and redis.call('HEXISTS', U, uid) == 0 then
	redis.call('ZADD', R, text(now + window), uid) -- until it opens
end

local reply = {1, stamp(), epoch, text(last), 0}
if ARGV[5] ~= epoch or since < floor or since > last then return reply end
local entries = {}
if since < last then entries = redis.call('LRANGE', KEYS[9], 0, -1) end
if #entries == 0 then floor = last end
for _, entry in ipairs(entries) do
	local number, at, ttl = string.match(entry, '^(%d+) (%d+) %d+ (%d+)')
	number, at, ttl = tonumber(number), tonumber(at), tonumber(ttl)
	if now - at >= window then
		floor = math.max(floor, number)
	elseif number > since and (ttl == 0 or at + ttl > now) then
		reply[#reply + 1] = entry
	end
end
if since < floor then return {1, stamp(), epoch, text(last), 0} end
reply[5] = 1
return reply
