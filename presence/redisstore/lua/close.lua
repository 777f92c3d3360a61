-- Removes connections. A connection that is not registered changes nothing.
--
-- KEYS as in prelude.lua
-- ARGV 1 not_after
--      then groups of 5: uid, conn, how long the user lingers in ms if this was
--      its last connection, the time of the open that is undone or 0, why
-- Returns {1, now, found...}, or {-2, now} if it is too late.
local reply = {1, 0}
for i = 2, #ARGV, 5 do
	local uid, conn, linger, at = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
	local cause = ARGV[i + 4]
	local conns, lingering = read(uid)
	local kept, gone = {}, nil
	for _, c in ipairs(conns) do
		if c[CONN] == conn and (at == 0 or tonumber(c[AT]) <= at) then gone = c else kept[#kept + 1] = c end
	end
	if gone then
		if #kept == 0 and linger > 0 then
			kept = {{'-', text(now), gone[TYPE], conn, cause, text(now + linger), gone[7]}}
		end
		commit(uid, conns, kept, cause)
	end
	reply[#reply + 1] = gone and 1 or 0
end
reply[2] = stamp()
return reply
