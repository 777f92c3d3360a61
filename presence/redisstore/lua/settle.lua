-- Keeps the result of a push under its idempotency key, or gives the key free.
--
-- KEYS 1 the key, whose value begins with the digest of the push
-- ARGV 1 digest  2 value to keep, empty to give the key free  3 for how long in ms
local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
	redis.call('DEL', KEYS[1])
else
	redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
