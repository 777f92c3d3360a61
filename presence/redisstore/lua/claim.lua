-- Keeps the claim on a dead node, or ends it because its members are out.
--
-- KEYS 1 dead  2 info, as in beat.lua
-- ARGV 1 dead node  2 claimant  3 for how long in ms; 0: it is done
-- Returns 1, or 0 if the claim is another's.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if not claim or string.match(claim, ' (.*)$') ~= ARGV[2] then return 0 end
if ARGV[3] == '0' then
	redis.call('HDEL', KEYS[1], ARGV[1])
	redis.call('HDEL', KEYS[2], ARGV[1])
else
	redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + tonumber(ARGV[3])) .. ' ' .. ARGV[2])
end
return 1
