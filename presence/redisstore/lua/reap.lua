-- Takes the connections of a dead node out of a part of a partition.
--
-- KEYS as in prelude.lua
-- ARGV 1 not_after  2 node  3 cursor, 0 to begin  4 about how many users to look at
-- Returns {1, now, cursor, removed conn...}, or {-2, now} if it is too late. The
-- cursor is 0 at the end.
local node = ARGV[2]
local scan = redis.call('HSCAN', U, ARGV[3], 'COUNT', ARGV[4])
local reply = {1, 0, scan[1]}
for i = 1, #scan[2], 2 do
	local uid = scan[2][i]
	if string.find('\n' .. scan[2][i + 1], '\n' .. node .. '.', 1, true) then
		local conns = read(uid)
		local kept = {}
		for _, c in ipairs(conns) do
			if string.sub(c[CONN], 1, #node + 1) == node .. '.' then
				reply[#reply + 1] = c[CONN]
			else
				kept[#kept + 1] = c
			end
		end
		commit(uid, conns, kept, 'node_lost')
	end
end
reply[2] = stamp()
return reply
