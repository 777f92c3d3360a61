-- Gives a partition another epoch, unless somebody else has.
--
-- KEYS 1 m, as in prelude.lua
-- ARGV 1 the epoch that it has  2 the one that it gets
-- Returns 1, or 0 if it has another.
if redis.call('HGET', KEYS[1], 'e') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'e', ARGV[2])
return 1
