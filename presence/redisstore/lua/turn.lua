-- Takes or keeps the turn to tell a hub's changes, and notes up to where they are
-- told.
--
-- KEYS 1 who has the turn  2 up to where they are told
-- ARGV 1 node  2 for how long it has the turn, in ms; 0: it gives the turn up
--      3 up to where they are told
--      4 1 if that is only from where to begin, unless more was told before
--      5 how long that is kept, in ms
-- Returns {1, up to where}, or {0} if another node has the turn.
local first = ARGV[4] == '1'
if first then redis.call('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[5]) end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0} end
-- Without a holder, another may have told more since.
if holder and not first and ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[5]) end
if ARGV[2] == '0' then
	redis.call('DEL', KEYS[1])
	return {0}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, redis.call('GET', KEYS[2]) or ARGV[3]}
