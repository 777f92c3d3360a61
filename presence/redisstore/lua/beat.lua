-- Renews a node's lease, and claims nodes whose lease has lapsed: who claims a
-- node takes its members out.
--
-- KEYS 1 nodes ZSET  node -> end of its lease
--      2 dead  HASH  node that is being taken out -> "end of the claim, claimant"
--      3 info  HASH  node -> what it says of itself
-- ARGV 1 node  2 lease in ms  3 what it says of itself  4 1 if it is new
--      5 1 if it may claim  6 for how long in ms  7 the incarnation that it was
--      before, or empty
-- Returns {1, now, claimed node...}, or {-1, now} if the node has lost its lease
-- to another, or the data is gone.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end

local node, lease = ARGV[1], tonumber(ARGV[2])
if ARGV[4] == '0' and not redis.call('ZSCORE', KEYS[1], node) then return {-1, text(now)} end
redis.call('ZADD', KEYS[1], text(now + lease), node)
redis.call('HSET', KEYS[3], node, ARGV[3])
-- What is left of the earlier one is for whoever claims it.
if ARGV[7] ~= '' then
	redis.call('ZREM', KEYS[1], ARGV[7])
	redis.call('HSET', KEYS[2], ARGV[7], '0 -')
end
local reply = {1, text(now)}
if ARGV[5] == '0' then return reply end

local function claim(dead)
	redis.call('HSET', KEYS[2], dead, text(now + tonumber(ARGV[6])) .. ' ' .. node)
	reply[#reply + 1] = dead
end

for _, lapsed in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, 16)) do
	redis.call('ZREM', KEYS[1], lapsed)
	claim(lapsed)
end
local dead = redis.call('HGETALL', KEYS[2])
for i = 1, #dead, 2 do
	if tonumber(string.match(dead[i + 1], '^%d+')) < now then claim(dead[i]) end
end
return reply
