-- Forgets lingering users whose time is over, and that gone users resume. Any
-- node may run it.
--
-- KEYS as in prelude.lua
-- ARGV 1 not_after
--      2 how many at most
-- Returns {1, now, how many}, or {-2, now} if it is too late.
local due = redis.call('ZRANGEBYSCORE', G, '-inf', text(now), 'LIMIT', 0, ARGV[2])
for _, uid in ipairs(due) do
	local conns, lingering = read(uid)
	if #conns == 0 then
		commit(uid, lines(conns, lingering), {})
	else
		redis.call('ZREM', G, uid)
	end
end
for _, uid in ipairs(redis.call('ZRANGEBYSCORE', R, '-inf', text(now), 'LIMIT', 0, ARGV[2])) do
	redis.call('HDEL', O, uid)
	redis.call('ZREM', R, uid)
end
return {1, stamp(), #due}
